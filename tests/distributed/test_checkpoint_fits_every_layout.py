"""A checkpoint is one tensor a name: bit for bit back into its own layout, and within rounding into any other."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from . import tiny_run
from .conftest import Pools
from .test_parallel_equals_serial import LAYOUTS, assert_identical, assert_same
from .tiny_run import Layout, Outcome

KINDS = ("weight", "exp_avg", "exp_avg_sq")


def write(state: dict[str, dict[str, torch.Tensor]], folder: Path) -> None:
    for kind in KINDS:
        save_file({name: tensors[kind].contiguous() for name, tensors in state.items()}, folder / f"{kind}.safetensors")


def go_on(folder: str, layout: Layout, steps: range) -> Outcome:
    """Build the engine on the saved weights, as a resumed run does, load the rest, train on."""
    files = {kind: load_file(Path(folder) / f"{kind}.safetensors") for kind in KINDS}
    engine = tiny_run.build(layout, files["weight"])
    state = {name: {kind: files[kind][name] for kind in KINDS} for name in files["weight"]}
    engine.load_full_state(state, step=steps.start)
    loaded: dict[str, Any] = dict(engine.full_state())
    for name, tensors in loaded.items():
        for kind in KINDS:
            assert torch.equal(tensors[kind], files[kind][name]), f"{name} {kind}"
    return tiny_run.train_steps(engine, layout, steps)


def resume(pools: Pools, state: dict[str, Any], folder: Path, ranks: int, layout: Layout, steps: range) -> Outcome:
    write(state, folder)
    return tiny_run.whole_outcome(pools.run(ranks, go_on, str(folder), layout, steps))


def last(outcome: Outcome, steps: int) -> Outcome:
    """The same outcome without its first steps' figures."""
    return Outcome(outcome.losses[steps:], outcome.grad_norms[steps:], outcome.state, outcome.logits, outcome.gates)


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", ["zero1", "zero2", "zero3", "pipeline 2", "pipeline 2 x data 2 sharded"])
def test_same_layout_goes_on_bit_for_bit(pools: Pools, tmp_path: Path, name: str, bf16: bool) -> None:
    ranks, layout = LAYOUTS[name]
    layout = layout.of(bf16=bf16)
    whole = pools.train(ranks, layout, range(6))
    half = pools.train(ranks, layout, range(3))
    assert_identical(resume(pools, half.state, tmp_path, ranks, layout, range(3, 6)), last(whole, 3))


def test_tied_weights_of_two_stages_go_on_bit_for_bit(pools: Pools, tmp_path: Path) -> None:
    layout = Layout(stages=2, tied=True)
    whole, half = pools.train(2, layout, range(4)), pools.train(2, layout, range(2))
    assert_identical(resume(pools, half.state, tmp_path, 2, layout, range(2, 4)), last(whole, 2))


@pytest.mark.parametrize(("first", "then"), [(3, 0), (0, 1), (1, 2), (2, 3)])
def test_another_zero_stage_goes_on(pools: Pools, tmp_path: Path, first: int, then: int) -> None:
    half = pools.train(2, Layout(zero=first), range(2))
    resumed = resume(pools, half.state, tmp_path, 2, Layout(zero=then), range(2, 4))
    assert_same(resumed, last(tiny_run.train_serial(range(4)), 2))


@pytest.mark.parametrize("zero", [2, 3])
def test_offloaded_state_goes_out_and_in(pools: Pools, tmp_path: Path, zero: int) -> None:
    offloaded = Layout(zero=zero, offload=("optimizer", "param")[: zero - 1])
    half = pools.train(2, offloaded, range(3))
    assert_identical(
        resume(pools, half.state, tmp_path, 2, offloaded, range(3, 6)), last(pools.train(2, offloaded, range(6)), 3)
    )
    plain = resume(pools, half.state, tmp_path, 2, Layout(zero=1), range(3, 6))
    assert_same(plain, last(tiny_run.train_serial(range(6)), 3))


ROAD = ["zero3", "pipeline 2", "one process", "pipeline 2 x data 2", "pipeline 2 x data 2 sharded", "zero2"]


def test_a_run_that_changes_its_layout_at_every_step(pools: Pools, tmp_path: Path) -> None:
    """ZeRO-3 on 2 -> pipeline 2 -> one process -> pipeline 2 x data 2 -> sharded -> ZeRO-2 on 2."""
    reference = tiny_run.train_serial(range(len(ROAD)))
    ranks, layout = LAYOUTS[ROAD[0]]
    outcome = pools.train(ranks, layout, range(1))
    for step, (_, name) in enumerate(pairwise(ROAD), start=1):
        ranks, layout = LAYOUTS[name]
        (folder := tmp_path / str(step)).mkdir()
        outcome = resume(pools, outcome.state, folder, ranks, layout, range(step, step + 1))
        assert outcome.losses[0] == pytest.approx(reference.losses[step], rel=1e-6), name
    assert_same(outcome, last(reference, len(ROAD) - 1))
