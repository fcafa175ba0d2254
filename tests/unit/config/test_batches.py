"""Batch arithmetic over replicas: with pipeline stages, ranks are more than replicas."""

import pytest

from flamingo_ds.config import BatchPlan, load_deepspeed_settings, plan_batches, plan_probe


def test_replicas_share_the_batch_and_stages_do_not(load):
    recipe = load("parallel.pipeline_stages=2")
    assert plan_batches(recipe, replicas=2) == plan_batches(load(), replicas=2)
    assert plan_batches(recipe, replicas=4)[0] == BatchPlan("pairs", 8, 2, 1)


def test_a_batch_that_the_replicas_cannot_share(load, error_of):
    error = error_of(plan_batches, load("parallel.pipeline_stages=2"), 3)
    assert str(error) == "data.datasets.pairs.batch_size = 8: expected a multiple of the 3 replicas"


def test_a_probe_is_cut_as_a_step_is(load, error_of):
    probe = "probe.datasets={held: {format: image_text, shards: held.tar, batch_size: 6, micro_batch_size: 1}}"
    assert plan_probe(load(probe), replicas=2) == []  # probe.every is 0
    assert plan_probe(load(probe, "probe.every=5", "probe.batches=4"), 2) == [BatchPlan("held", 6, 1, 3)]
    error = error_of(plan_probe, load(probe, "probe.every=5"), 4)
    assert str(error) == "probe.datasets.held.batch_size = 6: expected a multiple of the 4 ranks"


def test_a_micro_batch_that_does_not_divide_a_replica_s_share(load, error_of):
    recipe = load("parallel.pipeline_stages=2", "data.datasets.pairs.micro_batch_size=3")
    assert str(error_of(plan_batches, recipe, 2)) == (
        "data.datasets.pairs.micro_batch_size = 3: "
        "expected a divisor of 4, each rank's share of batch_size = 8 on 2 replicas"
    )


def test_micro_batches_of_a_pipeline_are_deepspeed_s_own_steps(load):
    """One of 4 pairs and two of 1 page: three steps of its schedule, whose size it never asks for."""
    content = load_deepspeed_settings(None, load("parallel.pipeline_stages=2"), replicas=2).content
    assert content["gradient_accumulation_steps"] == 3
    assert content["train_micro_batch_size_per_gpu"] == 1
    assert content["train_batch_size"] == 1 * 3 * 2


@pytest.mark.parametrize(("stages", "precision", "kept"), [(2, "bf16", True), (2, "fp32", False), (1, "bf16", False)])
def test_gradients_of_many_micro_batches_are_summed_in_fp32(load, stages, precision, kept):
    recipe = load(f"parallel.pipeline_stages={stages}", f"train.precision={precision}")
    content = load_deepspeed_settings(None, recipe, replicas=1).content
    assert content.get("data_types") == ({"grad_accum_dtype": "fp32"} if kept else None)


def test_the_json_may_choose_another_sum(load, tmp_path):
    path = tmp_path / "ds.json"
    path.write_text('{"zero_optimization": {"stage": 1}, "data_types": {"grad_accum_dtype": "bf16"}}')
    content = load_deepspeed_settings(str(path), load("parallel.pipeline_stages=2"), 1).content
    assert content["data_types"] == {"grad_accum_dtype": "bf16"}


@pytest.mark.parametrize("stage", [2, 3])
def test_a_pipeline_takes_zero_1(load, error_of, tmp_path, stage):
    path = tmp_path / "ds.json"
    path.write_text(f'{{"zero_optimization": {{"stage": {stage}}}}}')
    error = error_of(load_deepspeed_settings, str(path), load("parallel.pipeline_stages=2"), 1)
    assert str(error) == (
        f"zero_optimization.stage = {stage}: expected 1 with parallel.pipeline_stages: a pipeline keeps its gradients "
        "until the step's last micro-batch; parallel.shard_frozen shards what is frozen"
    )


@pytest.mark.parametrize("key", ["offload_optimizer", "offload_param"])
def test_a_pipeline_does_not_offload(load, error_of, tmp_path, key):
    path = tmp_path / "ds.json"
    path.write_text(f'{{"zero_optimization": {{"stage": 1, "{key}": {{"device": "cpu"}}}}}}')
    error = error_of(load_deepspeed_settings, str(path), load("parallel.pipeline_stages=2"), 1)
    assert (error.key, error.expected) == (f"zero_optimization.{key}", "nothing with parallel.pipeline_stages")
