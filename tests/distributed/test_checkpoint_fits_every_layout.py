"""A checkpoint is one tensor a name: bit for bit back into its own layout, and within rounding into any other."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from . import tiny_run
from .pool import WorkerPool
from .test_parallel_equals_serial import assert_same
from .tiny_run import Outcome

KINDS = ("weight", "exp_avg", "exp_avg_sq")


def write(state: dict[str, dict[str, torch.Tensor]], folder: Path) -> None:
    for kind in KINDS:
        save_file({name: tensors[kind].contiguous() for name, tensors in state.items()}, folder / f"{kind}.safetensors")


def go_on(folder: str, stage: int, steps: range, bf16: bool) -> Outcome:
    """Build the engine on the saved weights, as a resumed run does, load the rest, train on."""
    files = {kind: load_file(Path(folder) / f"{kind}.safetensors") for kind in KINDS}
    engine = tiny_run.build_engine(stage, False, bf16, weights=files["weight"])
    state = {name: {kind: files[kind][name] for kind in KINDS} for name in files["weight"]}
    engine.load_full_state(state, step=steps.start)
    loaded: dict[str, Any] = dict(engine.full_state())
    for name, tensors in loaded.items():
        for kind in KINDS:
            assert torch.equal(tensors[kind], files[kind][name]), f"{name} {kind}"
    return tiny_run.train_steps(engine, steps)


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_same_layout_goes_on_bit_for_bit(two_ranks: WorkerPool, tmp_path: Path, stage: int, bf16: bool) -> None:
    whole = two_ranks.run(tiny_run.train_parallel, stage, False, range(6), 1, bf16)[0]
    write(two_ranks.run(tiny_run.train_parallel, stage, False, range(3), 1, bf16)[0].state, tmp_path)
    resumed = two_ranks.run(go_on, str(tmp_path), stage, range(3, 6), bf16)[0]
    assert resumed.losses == whole.losses[3:]
    assert resumed.grad_norms == whole.grad_norms[3:]
    for name, tensors in whole.state.items():
        for kind in KINDS:
            assert torch.equal(resumed.state[name][kind], tensors[kind]), f"{name} {kind}"
    assert torch.equal(resumed.logits, whole.logits)


@pytest.mark.parametrize(("first", "then"), [(3, 0), (0, 1), (1, 2), (2, 3)])
def test_another_stage_goes_on(two_ranks: WorkerPool, tmp_path: Path, first: int, then: int) -> None:
    write(two_ranks.run(tiny_run.train_parallel, first, False, range(2))[0].state, tmp_path)
    resumed = two_ranks.run(go_on, str(tmp_path), then, range(2, 4), False)[0]
    reference = tiny_run.train_serial(range(4))
    reference.losses, reference.grad_norms = reference.losses[2:], reference.grad_norms[2:]
    assert_same(resumed, reference)


def test_two_ranks_to_one(two_ranks: WorkerPool, one_rank: WorkerPool, tmp_path: Path) -> None:
    write(two_ranks.run(tiny_run.train_parallel, 3, False, range(2))[0].state, tmp_path)
    resumed = one_rank.run(go_on, str(tmp_path), 1, range(2, 4), False)[0]
    reference = tiny_run.train_serial(range(4))
    reference.losses, reference.grad_norms = reference.losses[2:], reference.grad_norms[2:]
    assert_same(resumed, reference)
