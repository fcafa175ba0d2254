"""What a layout refuses before anything is built, and how it calls itself."""

import pytest
import torch

from flamingo_ds.config import ConfigError, DeepSpeedSettings
from flamingo_ds.model.freeze import FreezeRow, apply_freeze_table
from flamingo_ds.parallel import BatchShape, ParallelPlan, Topology, plan_layout
from tests.tiny import IMAGE_SIZE, tiny_flamingo, tiny_text_config

BATCHES = [(BatchShape(2, 16, 2, IMAGE_SIZE), 4)]


def settings(stage=1):
    return DeepSpeedSettings({"bf16": {"enabled": False}, "zero_optimization": {"stage": stage}}, stage)


def plan(model, stages, ranks=None, **changes):
    choices = {"shard_frozen": False, "reshard_after_forward": True, "checkpoint_every": 0} | changes
    return plan_layout(model, Topology(0, ranks or stages, stages), settings(), BATCHES, **choices)


def refusal(model, stages):
    with pytest.raises(ConfigError) as caught:
        plan(model, stages)
    error = caught.value
    assert (error.key, error.value) == ("parallel.pipeline_stages", stages)
    assert "\n" not in str(error)
    return error.expected


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_every_block_has_a_stage(stages):
    bounds = plan(tiny_flamingo(), stages).bounds
    assert (bounds[0], bounds[-1], len(bounds)) == (0, 3, stages + 1)
    assert list(bounds) == sorted(set(bounds))


def test_what_was_asked_for_is_in_the_plan():
    found = plan(tiny_flamingo(), 2, ranks=4, shard_frozen=True, reshard_after_forward=False, checkpoint_every=2)
    assert (found.shard_frozen, found.reshard_after_forward, found.checkpoint_every) == (True, False, 2)
    assert found.topology == Topology(0, 4, 2)


def test_more_stages_than_blocks():
    assert "3" in refusal(tiny_flamingo(), 4)


def test_a_family_that_was_never_cut():
    model = tiny_flamingo()
    model.config.text_config.model_type = "bloom"
    assert "bloom has not been tried" in refusal(model, 2)


def test_a_cap_on_the_logits():
    model = tiny_flamingo(tiny_text_config("gemma3_text", final_logit_softcapping=30.0))
    assert "without final_logit_softcapping" in refusal(model, 2)
    assert plan(model, 1).bounds == (0, 3)  # nothing is cut: nothing is asked of the family


def test_a_stage_without_anything_that_trains():
    """DeepSpeed's optimizer takes no empty list, and nothing would carry a gradient back."""
    model = tiny_flamingo(cross_attention_every=3)  # one gated block, before LM block 0
    apply_freeze_table(model, [FreezeRow("*", False), FreezeRow("gated_cross_attention.*", True)])
    assert "what can be: " in refusal(model, 2)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (ParallelPlan(Topology(0, 2), settings(3), (0, 3)), "ZeRO-3 on 2 ranks"),
        (ParallelPlan(Topology(0, 4, 2), settings(), (0, 1, 3)), "pipeline of 2 stages x data 2, ZeRO-1"),
        (
            ParallelPlan(Topology(0, 4, 2), settings(), (0, 1, 3), shard_frozen=True),
            "pipeline of 2 stages x data 2, ZeRO-1, frozen weights sharded",
        ),
    ],
)
def test_its_name(found, words):
    assert str(found) == words


def test_bounds_are_the_same_on_all_ranks_and_from_a_model_without_memory():
    model = tiny_flamingo()
    expected = plan(model, 2, ranks=4).bounds
    for rank in range(4):
        place = Topology(rank, 4, 2)
        with torch.no_grad():
            bare = model.to("meta")
        assert plan_layout(bare, place, settings(), BATCHES, False, True, 0).bounds == expected
