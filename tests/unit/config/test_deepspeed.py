import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_ds.config import BatchPlan, ConfigError, DatasetConfig, RunConfig, load_deepspeed_settings, plan_batches
from flamingo_ds.config.deepspeed import REFUSED
from flamingo_ds.config.schema import DataConfig, SampleFormat

DS_CONFIGS = sorted((Path(__file__).parents[3] / "ds_configs").glob("*.json"))


@pytest.fixture
def written(tmp_path: Path) -> Callable[[Any], str]:
    """A DeepSpeed file with the given content."""

    def write(content: Any) -> str:
        path = tmp_path / "ds.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


def test_the_share_of_a_rank_is_cut_into_micro_batches(load):
    assert plan_batches(load(), replicas=2) == [
        BatchPlan("pairs", batch_size=8, micro_batch_size=4, micro_steps=1),
        BatchPlan("pages", batch_size=4, micro_batch_size=1, micro_steps=2),
    ]


@given(st.integers(1, 64), st.integers(1, 16), st.integers(1, 64))
def test_planned_batches_add_up_or_are_refused(batch_size, micro_batch_size, world_size):
    dataset = DatasetConfig(SampleFormat.image_text, "a.tar", batch_size, micro_batch_size)
    config = RunConfig(run_dir="runs/test", data=DataConfig({"pairs": dataset}))
    try:
        (plan,) = plan_batches(config, world_size)
    except ConfigError:
        assert batch_size % (world_size * micro_batch_size)
    else:
        assert plan.micro_batch_size * plan.micro_steps * world_size == batch_size


def test_a_batch_that_the_ranks_cannot_share(load, error_of):
    error = error_of(plan_batches, load(), 3)
    assert str(error) == "data.datasets.pairs.batch_size = 8: expected a multiple of the 3 ranks"


def test_a_micro_batch_that_does_not_divide_the_share(load, error_of):
    error = error_of(plan_batches, load("data.datasets.pairs.micro_batch_size=3"), 2)
    assert str(error) == (
        "data.datasets.pairs.micro_batch_size = 3: "
        "expected a divisor of 4, each rank's share of batch_size = 8 on 2 ranks"
    )


def test_without_a_file_it_is_zero_1(load):
    settings = load_deepspeed_settings(None, load(), replicas=2)
    assert settings.zero_stage == 1
    # One DeepSpeed step is the whole step: 4 pairs and 2 pages a rank.
    assert settings.content["train_micro_batch_size_per_gpu"] == 6
    assert settings.content["train_batch_size"] == 12
    assert settings.content["gradient_accumulation_steps"] == 1
    assert settings.content["gradient_clipping"] == 1.0
    assert settings.content["bf16"] == {"enabled": True}


def test_auto_is_filled_in_and_the_rest_passed_on(load, written):
    path = written(
        {
            "train_batch_size": "auto",
            "gradient_clipping": "auto",
            "bf16": {"enabled": "auto", "check_grad_overflow": True},
            "wall_clock_breakdown": True,
            "zero_optimization": {"stage": 3, "reduce_bucket_size": 1000},
        }
    )
    settings = load_deepspeed_settings(path, load("train.optimizer.max_grad_norm=0.5"), replicas=1)
    assert settings.zero_stage == 3
    assert settings.content["train_batch_size"] == 12
    assert settings.content["gradient_clipping"] == 0.5
    assert settings.content["bf16"] == {"enabled": True, "check_grad_overflow": True}
    assert settings.content["wall_clock_breakdown"] is True
    assert settings.content["zero_optimization"] == {
        "stage": 3,
        "reduce_bucket_size": 1000,
        "memory_efficient_linear": False,
    }


def test_torch_computes_linear_layers_unless_the_json_asks_for_deepspeeds(load, written):
    # DeepSpeed's rounds before it adds the bias: the export would give other logits than the trained model.
    path = written({"zero_optimization": {"stage": 3, "memory_efficient_linear": True}})
    settings = load_deepspeed_settings(path, load(), replicas=1)
    assert settings.content["zero_optimization"]["memory_efficient_linear"] is True
    assert load_deepspeed_settings(None, load(), 1).content["zero_optimization"]["memory_efficient_linear"] is False


def test_values_that_agree_with_the_recipe_are_taken(load, written):
    path = written({"train_batch_size": 12, "gradient_clipping": 1, "zero_optimization": {"stage": 2}})
    assert load_deepspeed_settings(path, load(), replicas=1).zero_stage == 2


@pytest.mark.parametrize("path", DS_CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_every_json_in_ds_configs_is_accepted(load, path, precision):
    settings = load_deepspeed_settings(str(path), load(f"train.precision={precision}"), replicas=2)
    assert "auto" not in json.dumps(settings.content)


def test_ds_configs_are_found():
    assert {path.stem for path in DS_CONFIGS} == {
        "pipeline",
        "zero1",
        "zero2",
        "zero2_offload",
        "zero3",
        "zero3_offload",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"zero_optimisation": {"stage": 1}},
            "zero_optimisation = {'stage': 1}: expected a key that this trainer hands to DeepSpeed "
            "(--deepspeed_config); did you mean zero_optimization?",
        ),
        (
            {"zero_optimization": {"stage": 1, "overlap_com": True}},
            "zero_optimization.overlap_com = True: expected a key that this trainer hands to DeepSpeed "
            "(--deepspeed_config); did you mean zero_optimization.overlap_comm?",
        ),
        (
            {"bf16": {"enable": True}},
            "bf16.enable = True: expected a key that this trainer hands to DeepSpeed "
            "(--deepspeed_config); did you mean bf16.enabled?",
        ),
        (
            {"xyzzy": 1},
            "xyzzy = 1: expected a key that this trainer hands to DeepSpeed (--deepspeed_config)",
        ),
        ({"zero_optimization": True}, "zero_optimization = True: expected a JSON object (--deepspeed_config)"),
        ({"zero_optimization": {"stage": 4}}, "zero_optimization.stage = 4: expected 0, 1, 2 or 3"),
        ({"zero_optimization": {"stage": "3"}}, "zero_optimization.stage = '3': expected 0, 1, 2 or 3"),
        ({"zero_optimization": {"stage": True}}, "zero_optimization.stage = True: expected 0, 1, 2 or 3"),
        # Other trainers fill these in; here the text would reach DeepSpeed as it is.
        (
            {"zero_optimization": {"stage": 3, "reduce_bucket_size": "auto"}},
            "zero_optimization.reduce_bucket_size = 'auto': expected a value, or leave the key out for DeepSpeed's "
            "default (--deepspeed_config)",
        ),
        (
            {"steps_per_print": "auto"},
            "steps_per_print = 'auto': expected a value, or leave the key out for DeepSpeed's default "
            "(--deepspeed_config)",
        ),
    ],
)
def test_a_wrong_key_or_value(load, written, error_of, content, message):
    assert str(error_of(load_deepspeed_settings, written(content), load(), 1)) == message


@pytest.mark.parametrize(
    ("contradiction", "message"),
    [
        ({"train_batch_size": 13}, "train_batch_size = 13: expected auto or 12"),
        ({"train_micro_batch_size_per_gpu": 1}, "train_micro_batch_size_per_gpu = 1: expected auto or 6"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps = 2: expected auto or 1"),
        ({"gradient_clipping": 0.5}, "gradient_clipping = 0.5: expected auto or 1.0"),
        ({"bf16": {"enabled": False}}, "bf16.enabled = False: expected auto or true"),
    ],
)
def test_a_contradiction_of_the_recipe(load, written, error_of, contradiction, message):
    path = written({"zero_optimization": {"stage": 1}, **contradiction})
    error = error_of(load_deepspeed_settings, path, load(), 2)
    assert str(error) == f"{message}, which the recipe says (--deepspeed_config)"


CPU, NOTHING = {"device": "cpu"}, {"device": "none"}


@pytest.mark.parametrize(
    ("zero", "message"),
    [
        ({"stage": 1, "offload_param": CPU}, "offload_param = {'device': 'cpu'}: expected nothing with ZeRO stage 1"),
        ({"offload_optimizer": CPU}, "offload_optimizer = {'device': 'cpu'}: expected nothing with ZeRO stage 0"),
        (
            {"stage": 3, "offload_param": {"device": "nvme"}},
            "offload_param.device = 'nvme': expected one of: cpu, none",
        ),
        (
            {"stage": 2, "offload_optimizer": {"devise": "cpu"}},
            "offload_optimizer.devise = 'cpu': expected a key that this trainer hands to DeepSpeed "
            "(--deepspeed_config); did you mean zero_optimization.offload_optimizer.device?",
        ),
        (
            {"stage": 3, "offload_optimizer": True},
            'offload_optimizer = True: expected a JSON object such as {"device": "cpu"} (--deepspeed_config)',
        ),
    ],
)
def test_offload_that_cannot_be(load, written, error_of, zero, message):
    error = error_of(load_deepspeed_settings, written({"zero_optimization": zero}), load("train.precision=fp32"), 1)
    assert str(error) == f"zero_optimization.{message}"


@pytest.mark.parametrize(("section", "on_cpu"), [(None, False), (NOTHING, False), (CPU, True)])
def test_offloaded_masters_are_stepped_on_by_torch(load, written, section, on_cpu):
    zero = {"stage": 3} if section is None else {"stage": 3, "offload_optimizer": section, "offload_param": section}
    settings = load_deepspeed_settings(written({"zero_optimization": zero}), load(), 1)
    assert settings.optimizer_on_cpu is on_cpu
    assert ("zero_force_ds_cpu_optimizer" in settings.content) is on_cpu


def test_with_stages_micro_batches_are_deepspeeds(load, written):
    settings = load_deepspeed_settings(None, load("parallel.pipeline_stages=2"), replicas=2)
    # 1 x 4 pairs and 2 x 1 pages on each of two replicas.
    assert settings.content["gradient_accumulation_steps"] == 3
    assert settings.content["train_batch_size"] == 6
    assert settings.content["data_types"] == {"grad_accum_dtype": "fp32"}
    fp32 = load_deepspeed_settings(None, load("parallel.pipeline_stages=2", "train.precision=fp32"), 2)
    assert "data_types" not in fp32.content


@pytest.mark.parametrize(
    ("zero", "key"),
    [
        ({"stage": 0}, "stage"),
        ({"stage": 2}, "stage"),
        ({"stage": 3}, "stage"),
        ({"stage": 1, "offload_optimizer": CPU}, "offload_optimizer"),
    ],
)
def test_what_does_not_go_with_stages(load, written, error_of, zero, key):
    recipe = load("parallel.pipeline_stages=2", "train.precision=fp32")
    error = error_of(load_deepspeed_settings, written({"zero_optimization": zero}), recipe, 1)
    assert (error.key, error.value) == (f"zero_optimization.{key}", zero[key])
    assert "with parallel.pipeline_stages" in error.expected
    one_stage = load_deepspeed_settings(written({"zero_optimization": zero}), load("train.precision=fp32"), 1)
    assert one_stage.zero_stage == zero["stage"]


@pytest.mark.parametrize("key", REFUSED)
def test_what_the_recipe_or_the_trainer_owns_is_refused(load, written, error_of, key):
    error = error_of(load_deepspeed_settings, written({key: {}}), load(), 1)
    assert (error.key, error.value, error.expected) == (key, {}, f"{REFUSED[key]} (--deepspeed_config)")


@pytest.mark.parametrize("content", [{}, {"zero_optimization": {}}, {"zero_optimization": {"stage": 0}}])
def test_stage_0_needs_fp32(load, written, error_of, content):
    error = error_of(load_deepspeed_settings, written(content), load(), 1)
    assert str(error) == (
        "zero_optimization.stage = 0: "
        "expected 1, 2 or 3 with train.precision = bf16: DeepSpeed keeps no fp32 masters in stage 0"
    )
    assert load_deepspeed_settings(written(content), load("train.precision=fp32"), 1).zero_stage == 0


def test_a_missing_file(load, error_of):
    error = error_of(load_deepspeed_settings, "no/such.json", load(), 1)
    assert str(error) == "--deepspeed_config = 'no/such.json': expected the path of a JSON file; there is no such file"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "valid JSON; Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ('{"bf16": {}, "bf16": {}}', "valid JSON; bf16 is given twice"),
        ("[]", "a JSON object"),
    ],
)
def test_a_file_that_is_no_json_object(load, written, error_of, content, expected):
    path = written(content)
    error = error_of(load_deepspeed_settings, path, load(), 1)
    assert str(error) == f"--deepspeed_config = {path!r}: expected {expected}"
