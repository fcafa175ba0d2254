"""Every layout of a recipe on a cluster: memory of a GPU, communication and an estimate of the time of a step.

    python tools/plan.py flamingo-80b --nodes 8 --gpus-per-node 8 --gpu-memory 80GB
    python tools/plan.py my.yaml --nodes 1 --gpus-per-node 4 --gpu-memory 24GB --json plan.json model.style=openflamingo

Needs no GPU. Memory is counted on the recipe's own model, without contents; every sequence is taken as of full length
with all its images. Times are estimates by formula (flamingo_ds/parallel/planning/step_time.py), good for comparing
layouts and not for promises.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers.utils import logging as transformers_logging

from flamingo_ds.checkpoint.language_source import text_config
from flamingo_ds.checkpoint.pretrained import TokenIds, describe_model, skeleton
from flamingo_ds.checkpoint.timm_vision import input_size
from flamingo_ds.config import (
    EXIT_BAD_INPUT,
    EXIT_DONE,
    ConfigError,
    RunConfig,
    load_deepspeed_settings,
    load_recipe,
    plan_batches,
)
from flamingo_ds.config.schema import Precision, SampleFormat
from flamingo_ds.parallel.planning.batch_shape import BatchShape
from flamingo_ds.parallel.planning.costs import Batches, ModelCosts
from flamingo_ds.parallel.planning.layouts import Candidate, judge, layouts
from flamingo_ds.parallel.planning.memory import MASTER_AND_MOMENTS, Buffers, Layout
from flamingo_ds.parallel.planning.stages import stage_table
from flamingo_ds.parallel.planning.step_time import Machine

CONFIGURATIONS = Path(__file__).resolve().parent.parent / "ds_configs"
UNITS = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}


def main() -> int:
    """Print the table, write JSON."""
    options = _parser().parse_intermixed_args()
    transformers_logging.set_verbosity_error()
    try:
        report, candidates = plan(options)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    show(report, candidates, options.all)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file or the name of a shipped one")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="recipe keys, dotted")
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="default 1")
    parser.add_argument("--gpus-per-node", type=int, default=8, metavar="G", help="default 8")
    parser.add_argument("--gpu-memory", default="80GB", metavar="SIZE", help="with MB, GB, MiB or GiB; default 80GB")
    parser.add_argument(
        "--usable", type=float, default=0.9, help="share of it for tensors, the rest is the allocator's and NCCL's; 0.9"
    )
    parser.add_argument("--peak", type=float, default=989e12, help="FLOP/s of a GPU; default an H100's 989e12 in bf16")
    parser.add_argument("--utilisation", type=float, default=0.4, help="share of the peak that is reached; default 0.4")
    parser.add_argument("--in-node", type=float, default=300e9, help="bytes/s of a GPU in its node; default 300e9")
    parser.add_argument("--between-nodes", type=float, default=40e9, help="bytes/s of a GPU; default 40e9")
    parser.add_argument("--all", action="store_true", help="list what does not fit too, with the reason")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    return parser


def plan(options: argparse.Namespace) -> tuple[dict[str, Any], list[Candidate]]:
    """Judge every layout.

    Returns:
        What ``--json`` writes, and the layouts: those that fit by time, then the others.

    Raises:
        ConfigError: a wrong recipe or option.
    """
    machine, limit = _machine(options)
    config = load_recipe(options.recipe, options.overrides)
    plan_batches(config, 1)
    bf16 = config.train.precision is Precision.bf16
    model, image_size = _skeleton(config)
    costs = ModelCosts(model, torch.bfloat16 if bf16 else torch.float32)
    ranks = options.nodes * options.gpus_per_node
    batches_of = _batches(config, image_size)
    candidates = [
        judge(costs, layout, batches_of, lambda layout: _buffers(layout, config), limit, machine)
        for layout in layouts(ranks, costs.depth, bf16)
    ]
    candidates.sort(key=lambda one: (bool(one.reason), one.estimate.seconds if one.estimate else 0.0))
    frozen = sum(sum(part.frozen) for part in costs.sizes.values())
    trainable = sum(sum(part.trainable) for part in costs.sizes.values())
    report = {
        "recipe": options.recipe,
        "gpus": ranks,
        "memory_limit_bytes": limit,
        "parameters": {"frozen": frozen, "trainable": trainable},
        "checkpoint_bytes": {
            "without_frozen": MASTER_AND_MOMENTS * trainable,
            "with_frozen": MASTER_AND_MOMENTS * trainable + costs.dtype.itemsize * frozen,
        },
        "assumed": asdict(machine),
        "layouts": [_figures(one) for one in candidates],
    }
    return report, candidates


def _machine(options: argparse.Namespace) -> tuple[Machine, int]:
    for name in ("nodes", "gpus_per_node", "peak", "utilisation", "in_node", "between_nodes", "usable"):
        value = getattr(options, name)
        if not 0 < value < float("inf") or (name in ("utilisation", "usable") and value > 1):
            wanted = "a share above 0, at most 1" if name in ("utilisation", "usable") else "a number above 0"
            raise ConfigError(f"--{name.replace('_', '-')}", value, wanted)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MB|GB|MiB|GiB)", options.gpu_memory)
    if match is None or not float(match[1]):
        raise ConfigError("--gpu-memory", options.gpu_memory, f"a size such as 80GB; units are {', '.join(UNITS)}")
    limit = int(float(match[1]) * UNITS[match[2]] * options.usable)
    rates = (options.peak, options.utilisation, options.in_node, options.between_nodes)
    return Machine(options.gpus_per_node, *rates), limit


def _skeleton(config: RunConfig) -> tuple[Any, int]:
    recipe = config.model
    words = text_config(recipe.language_model).vocab_size
    described = describe_model(recipe, TokenIds(first_new=words, num_new=2, image=words, eoc=words + 1))
    model, _ = skeleton(described, recipe)
    size = recipe.vision_encoder.image_size
    if size is None and described.vision_features == "grid":
        size = input_size(described.vision_config)
    return model, size or described.vision_config.image_size


def _batches(config: RunConfig, image_size: int) -> Callable[[int], Batches]:
    """A rank's micro-batches by the number of data-parallel ranks; ConfigError where batch sizes do not divide."""

    def batches_of(ranks: int) -> Batches:
        found = []
        for batch in plan_batches(config, ranks):
            dataset = config.data.datasets[batch.dataset]
            frames = dataset.frames if dataset.format is SampleFormat.video_text else 1
            shape = BatchShape(batch.micro_batch_size, dataset.max_tokens, dataset.max_images, image_size, frames)
            found.append((shape, batch.micro_steps))
        return found

    return batches_of


def _buffers(layout: Layout, config: RunConfig) -> Buffers:
    """Of the shipped configuration of a ZeRO stage, completed as for a training; a pipeline's is that of stage 1."""
    path = CONFIGURATIONS / f"zero{layout.zero_stage}.json"
    if not path.is_file():
        return Buffers()
    staged = replace(config, parallel=replace(config.parallel, pipeline_stages=layout.stages))
    return Buffers.of(load_deepspeed_settings(str(path), staged, layout.data).content)


def _keys(layout: Layout) -> str:
    """What to add to the command line of training."""
    keys = f"parallel.activation_checkpointing={'block' if layout.every else 'off'}"
    if layout.stages == 1:
        return f"--deepspeed_config ds_configs/zero{layout.zero_stage}.json {keys}" if layout.zero_stage else keys
    keys += f" parallel.pipeline_stages={layout.stages}"
    if layout.shard_frozen:
        keys += " parallel.shard_frozen=true"
    return keys + ("" if layout.reshard else " parallel.reshard_after_forward=false")


def _figures(one: Candidate) -> dict[str, Any]:
    """One layout in the JSON."""
    figures: dict[str, Any] = {"name": one.layout.name, "fits": not one.reason, **asdict(one.layout)}
    figures["reason"] = one.reason or None
    figures["keys"] = _keys(one.layout)
    if one.memory is not None:
        figures["memory_bytes"] = {"total": one.memory.total, **asdict(one.memory)}
    if one.estimate is not None:
        figures["communication_bytes"] = {
            "collectives": one.estimate.collectives,
            "point_to_point": one.estimate.point_to_point,
        }
        seconds = {"total": one.estimate.seconds, "compute": one.estimate.compute}
        figures["seconds"] = seconds | {"bubble": one.estimate.bubble, "exposed": one.estimate.exposed}
    if one.plan is not None:
        figures["stages_detail"] = [
            {
                "blocks": [start, end],
                "frozen": one.plan.frozen[stage],
                "trainable": one.plan.trainable[stage],
                "time_share": one.plan.flops[stage] / sum(one.plan.flops),
                "memory_bytes": one.plan.memory[stage].total,
            }
            for stage, (start, end) in enumerate(pairwise(one.plan.bounds))
        ]
    return figures


def show(report: dict[str, Any], candidates: list[Candidate], everything: bool) -> None:
    """The tables."""
    console = Console(width=120)
    fitting = [one for one in candidates if not one.reason]
    limit = report["memory_limit_bytes"] / 1e9
    table = Table("layout", "recompute", "GB a GPU", "GB sent a step", "step s (estimate)", "of it bubble")
    table.title = f"{report['recipe']} on {report['gpus']} GPUs, at most {limit:.1f} GB each"
    for one in fitting:
        assert one.memory is not None
        assert one.estimate is not None
        sent = f"{one.estimate.communication / 1e9:,.1f}"
        row = (one.layout.name, "block" if one.layout.every else "off", f"{one.memory.total / 1e9:.2f}", sent)
        table.add_row(*row, f"{one.estimate.seconds:.3g}", f"{one.estimate.bubble / one.estimate.seconds:.0%}")
    if fitting:
        console.print(table)
    else:
        console.print(f"no layout fits in {limit:.1f} GB")
    _show_others([one for one in candidates if one.reason], everything, console)
    pipelines = [one for one in fitting if one.plan is not None]
    if pipelines and pipelines[0].plan is not None:
        console.print(f"\nthe fastest pipeline: {pipelines[0].layout.name}")
        console.print(stage_table(pipelines[0].plan))
    sizes = report["checkpoint_bytes"]
    console.print(
        f"a checkpoint: {sizes['without_frozen'] / 1e9:.1f} GB (fp32 weights and two moments of what trains); "
        f"with the frozen weights, which are never written, it would be {sizes['with_frozen'] / 1e9:.1f} GB"
    )
    if fitting:
        command = f"python -m flamingo_ds.train --recipe {report['recipe']} {_keys(fitting[0].layout)}"
        console.print(f"the fastest: {command}", soft_wrap=True, highlight=False, markup=False)


def _show_others(others: list[Candidate], everything: bool, console: Console) -> None:
    if everything:
        for one in others:
            name = f"{one.layout.name}, recompute {'block' if one.layout.every else 'off'}"
            console.print(f"no: {name}: {one.reason}", soft_wrap=True, highlight=False, markup=False)
        return
    reasons = Counter("too little memory" if one.reason.startswith("needs") else one.reason for one in others)
    for reason, count in reasons.most_common():
        console.print(f"{count} left out: {reason}", soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    sys.exit(main())
