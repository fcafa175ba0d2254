"""A small model, its batches and its DeepSpeed configuration, laid out as a training would.

Eight LM blocks of width 256 with a gated block before every second one, a vision tower of four layers, 4,096 words. Two
datasets: pages of 256 tokens and four images in two micro-batches a rank, pairs of 64 tokens and one image in one.
"""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import CLIPVisionConfig, LlamaConfig

from flamingo_ds.batch import FlamingoBatch
from flamingo_ds.config import DeepSpeedSettings, load_deepspeed_settings
from flamingo_ds.config.schema import (
    DataConfig,
    DatasetConfig,
    OptimizerConfig,
    ParallelConfig,
    Precision,
    RunConfig,
    SampleFormat,
    TrainConfig,
)
from flamingo_ds.data import MicroBatch
from flamingo_ds.model import FlamingoConfig, FlamingoForConditionalGeneration
from flamingo_ds.model.freeze import FreezeRow, apply_freeze_table
from flamingo_ds.parallel import (
    Batches,
    BatchShape,
    ParallelPlan,
    Topology,
    TrainEngine,
    build_engine,
    parameters_on_meta,
)
from flamingo_ds.parallel.planning import Layout
from flamingo_ds.training.optimizer import build_optimizer

CONFIGURATIONS = Path(__file__).resolve().parents[2] / "ds_configs"
SHRINK = 50
"""The shipped configurations' bucket sizes are for models of billions; here they are divided by this."""
WORDS = 4096
IMAGE_SIZE = 64
OPTIMIZER = OptimizerConfig(max_grad_norm=1.0)


@dataclass(frozen=True)
class Dataset:
    """Its micro-batches: how many a rank and step, sequences, tokens and images of each."""

    micro_steps: int
    shape: BatchShape


DATASETS = {
    "pairs": Dataset(1, BatchShape(1, 64, 1, IMAGE_SIZE)),
    "pages": Dataset(2, BatchShape(1, 256, 4, IMAGE_SIZE)),
}


@dataclass(frozen=True)
class Case:
    """A layout and the precision that it trains in."""

    layout: Layout
    bf16: bool

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations."""
        return torch.bfloat16 if self.bf16 else torch.float32


def cases(bf16: bool) -> list[Case]:
    """Every layout on one, two and four ranks, without and with checkpointing; ZeRO-0 is for fp32 alone."""
    bare = [Layout(1, 1), Layout(1, 2), Layout(2, 2), Layout(3, 2), Layout(1, 1, 2), Layout(1, 2, 2)]
    bare += [Layout(1, 2, 2, shard_frozen=True), Layout(1, 2, 2, shard_frozen=True, reshard=False)]
    if not bf16:
        bare.insert(0, Layout(0, 1))
    return [Case(replace(layout, every=every), bf16) for layout in bare for every in (0, 1)]


def build_model() -> FlamingoForConditionalGeneration:
    """Gates at 0.5, so that everything gets a gradient."""
    torch.manual_seed(0)
    text = LlamaConfig(
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=WORDS,
        pad_token_id=0,
    )
    vision = CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=16,
    )
    config = FlamingoConfig(
        text,
        vision,
        resampler_depth=2,
        resampler_latents=32,
        resampler_heads=4,
        resampler_head_width=48,
        cross_attention_every=2,
        initial_gate=0.5,
        num_new_tokens=2,
        first_new_token_id=WORDS,
        image_token_id=WORDS,
        eoc_token_id=WORDS + 1,
    )
    model = FlamingoForConditionalGeneration(config)
    apply_freeze_table(
        model, [FreezeRow("*", True), FreezeRow("language_model.*", False), FreezeRow("vision_model.*", False)]
    )
    return model


@cache
def skeleton() -> FlamingoForConditionalGeneration:
    """Without memory for its parameters; not to be changed."""
    with parameters_on_meta():
        return build_model()


def batches() -> Batches:
    """A rank's micro-batches of a step."""
    return [(dataset.shape, dataset.micro_steps) for dataset in DATASETS.values()]


def settings(case: Case) -> DeepSpeedSettings:
    """The shipped configuration of a ZeRO stage with smaller buckets, completed as for a training."""
    layout = case.layout
    datasets = {
        name: DatasetConfig(
            format=SampleFormat.interleaved,
            shards="",
            batch_size=layout.data * dataset.micro_steps * dataset.shape.sequences,
            micro_batch_size=dataset.shape.sequences,
        )
        for name, dataset in DATASETS.items()
    }
    recipe = RunConfig(
        run_dir="",
        data=DataConfig(datasets=datasets),
        train=TrainConfig(max_steps=1, precision=Precision.bf16 if case.bf16 else Precision.fp32, optimizer=OPTIMIZER),
        parallel=ParallelConfig(pipeline_stages=layout.stages),
    )
    path = CONFIGURATIONS / f"zero{max(layout.zero_stage, 1)}.json"
    complete = load_deepspeed_settings(str(path), recipe, layout.data)
    content = copy.deepcopy(complete.content)
    zero: dict[str, Any] = content["zero_optimization"]
    for key, value in zero.items():
        if type(value) is int and key != "stage":
            zero[key] = value // SHRINK
    zero["stage"] = layout.zero_stage
    return DeepSpeedSettings(json.loads(json.dumps(content)), layout.zero_stage)


def build(case: Case, bounds: tuple[int, ...]) -> Callable[[], TrainEngine]:
    """What builds the engine; weights and skeleton are there before, as they are no part of it."""
    layout = case.layout
    initial = build_model().state_dict()
    empty = copy.deepcopy(skeleton())
    topology = Topology(dist.get_rank(), dist.get_world_size(), layout.stages)
    plan = ParallelPlan(topology, settings(case), bounds, layout.shard_frozen, layout.reshard, layout.every)
    return lambda: build_engine(
        empty,
        lambda name: initial[name],
        plan,
        lambda module: build_optimizer(module, OPTIMIZER),
        doing=lambda what: None,
    )


def micro_batches(layout: Layout) -> list[MicroBatch]:
    """Full sequences with all their images on the ranks that read data, empty ones on the others."""
    reads = dist.get_rank() < layout.data
    found = []
    for name, dataset in DATASETS.items():
        for number in range(dataset.micro_steps):
            batch = _batch(dataset.shape, number)
            found.append(MicroBatch(name, 1.0, batch if reads else batch[:0]))
    return found


def _batch(shape: BatchShape, seed: int) -> FlamingoBatch:
    """Pixels in half precision, which no engine trains in: each makes a copy of its own, as it would on a GPU."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, WORDS, (shape.sequences, shape.tokens), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, -1] = 0  # one token of padding, so that the LM builds a mask
    return FlamingoBatch(
        input_ids=ids,
        labels=ids.clone(),
        attention_mask=mask,
        media_ids=shape.example_media_ids().contiguous(),
        pixel_values=torch.randn(
            shape.sequences, shape.images, shape.frames, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator
        ).half(),
        num_images=torch.full((shape.sequences,), shape.images),
        num_frames=torch.full((shape.sequences, shape.images), shape.frames),
    )
