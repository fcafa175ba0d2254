"""DeepSpeed's JSON configuration: checked key by key, its ``auto`` values filled in from the recipe.

DeepSpeed ignores a key that it does not know, so a misspelt one changes nothing and says nothing. Here it is refused.
Batch sizes, precision, clipping, optimizer and schedule belong to the recipe; the JSON may say ``auto`` or agree.
"""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .batches import plan_batches
from .schema import Precision, RunConfig

AUTO = "auto"

# Keys of DeepSpeed 0.19 that this trainer passes on as they are. A test holds them against the installed DeepSpeed.
PASSED_ON = {
    "aio",
    "comms_logger",
    "communication_data_type",
    "data_types",
    "disable_allgather",
    "disable_python_gc",
    "dump_state",
    "flops_profiler",
    "gradient_allreduce_op",
    "gradient_predivide_factor",
    "log_level",
    "memory_breakdown",
    "prescale_gradients",
    "steps_per_print",
    "timers",
    "wall_clock_breakdown",
    "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer",
}
FILLED = {"train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping"}
SECTIONS = {"bf16", "zero_optimization"}
REFUSED = {
    "optimizer": "nothing: the recipe's train.optimizer is the optimizer",
    "scheduler": "nothing: the recipe's train.schedule is the schedule",
    "fp16": "nothing: train.precision is bf16 or fp32",
    "activation_checkpointing": "nothing: the recipe's parallel.activation_checkpointing decides",
    "tensorboard": "nothing: the run folder always has one",
    "checkpoint": "nothing: checkpoints are this trainer's own",
    "pipeline": "nothing: the recipe's parallel.pipeline_stages decides",
}
ZERO_KEYS = {
    "allgather_bucket_size",
    "allgather_partitions",
    "contiguous_gradients",
    "ignore_unused_parameters",
    "log_trace_cache_warnings",
    "memory_efficient_linear",
    "offload_optimizer",
    "offload_param",
    "overlap_comm",
    "reduce_bucket_size",
    "reduce_scatter",
    "round_robin_gradients",
    "stage",
    "stage3_allgather_sequential",
    "stage3_max_live_parameters",
    "stage3_max_reuse_distance",
    "stage3_model_persistence_threshold",
    "stage3_module_granularity_threshold",
    "stage3_param_persistence_threshold",
    "stage3_prefetch_bucket_size",
    "stage3_use_all_reduce_for_fetch_params",
    "sub_group_size",
    "use_multi_rank_bucket_allreduce",
    "zero_hpz_partition_size",
    "zero_quantized_gradients",
    "zero_quantized_nontrainable_weights",
    "zero_quantized_weights",
}
# Section -> the ZeRO stages that it goes with.
OFFLOAD = {"offload_optimizer": (1, 2, 3), "offload_param": (3,)}
OFFLOAD_KEYS = {"device", "pin_memory"}
OFFLOAD_DEVICES = ("cpu", "none")
BF16_KEYS = {"check_grad_overflow", "enabled", "immediate_grad_update"}


@dataclass(frozen=True)
class DeepSpeedSettings:
    """What ``deepspeed.initialize`` gets, complete."""

    content: dict[str, Any]
    zero_stage: int

    @property
    def optimizer_on_cpu(self) -> bool:
        """Whether masters and moments are offloaded, and stepped on by the CPU."""
        return _offloads(self.content["zero_optimization"], "offload_optimizer")


def load_deepspeed_settings(path: str | None, config: RunConfig, replicas: int) -> DeepSpeedSettings:
    """Read and complete a DeepSpeed JSON file; without one, ZeRO stage 1.

    Args:
        path: the file given with ``--deepspeed_config``, or None.
        config: the recipe.
        replicas: ranks with samples of their own, see :func:`plan_batches`.

    Raises:
        ConfigError: unreadable file, unknown key, or a value that contradicts the recipe.
    """
    content = {"zero_optimization": {"stage": 1}} if path is None else _read(path)
    _check_keys(content)
    bf16 = config.train.precision is Precision.bf16
    stages = config.parallel.pipeline_stages
    zero = content.get("zero_optimization", {})
    stage = _stage(zero, bf16, stages)
    micro_batches = [plan.micro_batch_size for plan in plan_batches(config, replicas) for _ in range(plan.micro_steps)]
    # Without stages the micro-steps are this trainer's own loop (datasets differ in size), so DeepSpeed sees one big
    # one. With stages they are DeepSpeed's schedule; it counts them and never asks for their size.
    size, steps = (sum(micro_batches), 1) if stages == 1 else (1, len(micro_batches))
    filled = {
        **content,
        "train_batch_size": _agree(content, "train_batch_size", size * steps * replicas),
        "train_micro_batch_size_per_gpu": _agree(content, "train_micro_batch_size_per_gpu", size),
        "gradient_accumulation_steps": _agree(content, "gradient_accumulation_steps", steps),
        "gradient_clipping": _agree(content, "gradient_clipping", config.train.optimizer.max_grad_norm),
        # DeepSpeed's own linear layer of stage 3 adds the bias after rounding to bf16: the trained model would give
        # other logits than its export. torch's is used unless the JSON asks for the other.
        "zero_optimization": {"memory_efficient_linear": False, **zero},
        "bf16": {**content.get("bf16", {}), "enabled": _agree(content.get("bf16", {}), "enabled", bf16, "bf16.")},
    }
    filled.setdefault("steps_per_print", 10**9)
    if stages > 1 and bf16:
        # A pipeline has many micro-batches a step: summed up in bf16 the later ones would be lost in rounding.
        filled.setdefault("data_types", {"grad_accum_dtype": "fp32"})
    if _offloads(zero, "offload_optimizer"):
        filled.setdefault("zero_force_ds_cpu_optimizer", False)  # torch's fused AdamW runs on the CPU as well
    return DeepSpeedSettings(filled, stage)


def _stage(zero: dict[str, Any], bf16: bool, pipeline_stages: int) -> int:
    """The ZeRO stage, if it goes with the rest."""
    stage = zero.get("stage", 0)
    if type(stage) is not int or stage not in (0, 1, 2, 3):  # true is no stage
        raise ConfigError("zero_optimization.stage", stage, "0, 1, 2 or 3")
    if stage == 0 and bf16:
        expected = "1, 2 or 3 with train.precision = bf16: DeepSpeed keeps no fp32 masters in stage 0"
        raise ConfigError("zero_optimization.stage", 0, expected)
    if pipeline_stages > 1 and stage != 1:
        expected = "1 with parallel.pipeline_stages: a pipeline keeps its gradients until the step's last micro-batch"
        raise ConfigError("zero_optimization.stage", stage, f"{expected}; parallel.shard_frozen shards what is frozen")
    for key, stages in OFFLOAD.items():
        if _offloads(zero, key) and pipeline_stages > 1:
            raise ConfigError(f"zero_optimization.{key}", zero[key], "nothing with parallel.pipeline_stages")
        if _offloads(zero, key) and stage not in stages:
            raise ConfigError(f"zero_optimization.{key}", zero[key], f"nothing with ZeRO stage {stage}")
    return stage


def _offloads(zero: dict[str, Any], section: str) -> bool:
    return bool(zero.get(section, {}).get("device", "none") != "none")


def _check_offload(key: str, section: Any) -> None:
    if not isinstance(section, dict):
        raise ConfigError(key, section, 'a JSON object such as {"device": "cpu"} (--deepspeed_config)')
    for inner, value in section.items():
        _known(inner, value, OFFLOAD_KEYS, f"{key}.")
    if section.get("device", "none") not in OFFLOAD_DEVICES:
        raise ConfigError(f"{key}.device", section["device"], f"one of: {', '.join(OFFLOAD_DEVICES)}")


def _read(path: str) -> dict[str, Any]:
    file = Path(path)
    if not file.is_file():
        raise ConfigError("--deepspeed_config", path, "the path of a JSON file; there is no such file")
    try:
        content = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ConfigError("--deepspeed_config", path, f"valid JSON; {error}") from error
    if not isinstance(content, dict):
        raise ConfigError("--deepspeed_config", path, "a JSON object")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of the JSON; of a key given twice, one value would be lost without a word."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)} is given twice")
    return content


def _check_keys(content: dict[str, Any]) -> None:
    for key, value in content.items():
        if key in REFUSED:
            raise ConfigError(key, value, f"{REFUSED[key]} (--deepspeed_config)")
        _known(key, value, PASSED_ON | FILLED | SECTIONS, "")
        if key in PASSED_ON:
            _no_auto(key, value)
    for section, known in (("zero_optimization", ZERO_KEYS), ("bf16", BF16_KEYS)):
        inner = content.get(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(section, inner, "a JSON object (--deepspeed_config)")
        for key, value in inner.items():
            _known(key, value, known, f"{section}.")
            if section == "zero_optimization":
                _no_auto(f"{section}.{key}", value)
            if key in OFFLOAD:
                _check_offload(f"{section}.{key}", value)


def _known(key: str, value: Any, known: set[str], prefix: str) -> None:
    if key not in known:
        close = difflib.get_close_matches(key, sorted(known), n=1)
        hint = f"; did you mean {prefix}{close[0]}?" if close else ""
        raise ConfigError(
            f"{prefix}{key}", value, f"a key that this trainer hands to DeepSpeed (--deepspeed_config){hint}"
        )


def _no_auto(key: str, value: Any) -> None:
    if value == AUTO:
        raise ConfigError(key, value, "a value, or leave the key out for DeepSpeed's default (--deepspeed_config)")


def _agree(section: dict[str, Any], key: str, wanted: Any, prefix: str = "") -> Any:
    """The recipe's value, unless the JSON contradicts it."""
    given = section.get(key, AUTO)
    if given not in (AUTO, wanted):
        raise ConfigError(
            f"{prefix}{key}", given, f"auto or {json.dumps(wanted)}, which the recipe says (--deepspeed_config)"
        )
    return wanted
