"""Backbones that train, tied matrices, batches without images: cut into stages it is still the model of one process."""

from functools import partial
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from flamingo_ds.config.schema import FreezePreset
from flamingo_ds.model.decoder_blocks import decoder_blocks
from flamingo_ds.parallel.stage import PassThrough

from . import tiny_run
from .conftest import STEPS, Pools
from .test_parallel_equals_serial import LAYOUTS, assert_identical, assert_same, serial
from .tiny_run import Layout

UNFROZEN = FreezePreset.language_model_unfrozen
PIPELINES = ["pipeline 2", "pipeline 2 x data 2", "pipeline 2 x data 2 sharded"]


def copies_of_tied_weights(layout: Layout) -> dict[str, torch.Tensor]:
    """What this stage holds of the weights that first and last have in common, after some training."""
    engine: Any = tiny_run.build(layout)
    tiny_run.train_steps(engine, layout, STEPS)
    return {name: parameter.detach().clone() for name, parameter in engine.stage.tied_parameters()}


def recomputing(layout: Layout) -> dict[str, bool]:
    """Which of this rank's blocks recompute, by their place in the whole model."""
    engine: Any = tiny_run.build(layout)
    model = engine.stage.model if layout.stages > 1 else engine.engine.module
    blocks = {f"lm/{index}": block for index, block in enumerate(decoder_blocks(model.language_model))}
    blocks |= {f"gated/{index}": block for index, block in model.gated_cross_attention.items()}
    return {
        name: isinstance(block.forward, partial) and block.forward.func is checkpoint
        for name, block in blocks.items()
        if not isinstance(block, PassThrough)
    }


@pytest.mark.parametrize("family", sorted(tiny_run.TEXT))
@pytest.mark.parametrize("preset", [UNFROZEN, FreezePreset.fine_tuning])
@pytest.mark.parametrize("name", ["zero3", *PIPELINES])
def test_a_backbone_trains(pools: Pools, name: str, preset: FreezePreset, family: str) -> None:
    ranks, layout = LAYOUTS[name]
    layout = layout.of(preset=preset, family=family)
    outcome = pools.train(ranks, layout)
    assert_same(outcome, serial(Layout(preset=preset, family=family)))
    backbone = "language_model." if preset is UNFROZEN else "vision_model."
    assert sum(name.startswith(backbone) for name in outcome.state) > 10
    if "sharded" not in name:
        assert_identical(pools.train(ranks, layout.of(checkpoint_every=1)), outcome)


@pytest.mark.parametrize("name", ["zero3", *PIPELINES])
def test_a_tied_language_model_trains(pools: Pools, name: str) -> None:
    """First and last stage each have a part of the gradient of the embedding, which is the head."""
    ranks, layout = LAYOUTS[name]
    outcome = pools.train(ranks, layout.of(tied=True, preset=UNFROZEN))
    assert_same(outcome, serial(Layout(tied=True, preset=UNFROZEN)))
    assert "language_model.lm_head.weight" not in outcome.state


@pytest.mark.parametrize("preset", [UNFROZEN, FreezePreset.paper])
@pytest.mark.parametrize(("ranks", "bf16"), [(2, True), (4, False)])
def test_both_copies_of_a_tied_weight_stay_the_same(pools: Pools, ranks: int, bf16: bool, preset: FreezePreset) -> None:
    copies = pools.run(ranks, copies_of_tied_weights, Layout(stages=2, tied=True, preset=preset, bf16=bf16))
    first, last = copies[0], copies[-1]
    assert first.keys() == last.keys() == {"language_model.model.embed_tokens.weight", "new_token_embedding.weight"}
    initial = tiny_run.tiny_model("llama", tied=True).state_dict()
    for held in copies:
        for name, weight in held.items():
            assert torch.equal(weight, first[name]), name
            trains = preset is UNFROZEN or name.startswith("new_token")
            assert torch.equal(weight, initial[name].to(weight.dtype)) != trains, name


@pytest.mark.parametrize("without", [(1, 3), (0, 1, 2, 3)], ids=["one replica", "all"])
@pytest.mark.parametrize("name", ["zero3", *PIPELINES])
def test_replicas_without_images(pools: Pools, name: str, without: tuple[int, ...]) -> None:
    """They have one slot for none, their neighbours up to five: every stage is told by what arrives."""
    ranks, layout = LAYOUTS[name]
    outcome = pools.train(ranks, layout.of(without_images=without))
    assert_same(outcome, serial(Layout(without_images=without)))


def test_micro_batches_with_and_without_images_take_turns(pools: Pools) -> None:
    layout = Layout(stages=2, micro_steps=4, without_images=(1, 2))
    assert_same(pools.train(2, layout), serial(Layout(without_images=(1, 2))))


@pytest.mark.parametrize("name", ["zero3", PIPELINES[0]])
def test_ablations_of_the_model(pools: Pools, name: str) -> None:
    """No gates to tell of, and another module in the resampler's place."""
    ranks, layout = LAYOUTS[name]
    changes = (("gate", "none"), ("resampler_kind", "mean"))
    outcome = pools.train(ranks, layout.of(changes=changes))
    assert_same(outcome, serial(Layout(changes=changes)))
    assert outcome.gates == {}
    assert "resampler.project.weight" in outcome.state


@pytest.mark.parametrize(("ranks", "stages"), [(2, 2), (4, 4)])
def test_the_same_blocks_recompute_in_every_layout(pools: Pools, ranks: int, stages: int) -> None:
    """Every third of four is the third one; counted within a stage, it would be none."""
    (whole,) = pools.run(1, recomputing, Layout(zero=0, checkpoint_every=3))
    assert whole == {f"{kind}/{block}": block == 2 for kind in ("lm", "gated") for block in range(tiny_run.BLOCKS)}
    parts = pools.run(ranks, recomputing, Layout(stages=stages, checkpoint_every=3))
    assert {name: recomputes for part in parts for name, recomputes in part.items()} == whole
