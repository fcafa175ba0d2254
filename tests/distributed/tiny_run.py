"""The same tiny training, run in plain PyTorch or laid out over ranks; imported by name in the worker processes."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from transformers import AutoConfig, CLIPVisionConfig

from flamingo_ds.batch import IGNORED_LABEL, FlamingoBatch
from flamingo_ds.config import DeepSpeedSettings
from flamingo_ds.config.freeze_presets import freeze_rows
from flamingo_ds.config.schema import FreezePreset, ModelConfig, OptimizerConfig
from flamingo_ds.data import MicroBatch
from flamingo_ds.model import FlamingoConfig, FlamingoForConditionalGeneration
from flamingo_ds.model.freeze import FreezeRow, apply_freeze_table
from flamingo_ds.parallel import ParallelPlan, Topology, TrainEngine, build_engine, parameters_on_meta
from flamingo_ds.training.optimizer import build_optimizer

OPTIMIZER = OptimizerConfig(max_grad_norm=0.5)
RATES = (0.0, 3e-3, 2e-3, 1e-3, 3e-3, 2e-3)
WEIGHTS = {"pairs": 0.3, "pages": 1.0}
VOCABULARY, IMAGE, EOC = 50, 50, 51
BLOCKS = 4
TEXT: dict[str, dict[str, Any]] = {
    "llama": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "opt": {
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 64,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
        "dropout": 0.0,
    },
}


@dataclass
class Outcome:
    """What a tiny training gave: a loss a dataset and a gradient norm for each step, and the state at the end."""

    losses: list[dict[str, float]] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    state: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    logits: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    gates: dict[str, float] = field(default_factory=dict)


def tiny_model(
    family: str = "llama",
    tied: bool = False,
    preset: FreezePreset = FreezePreset.paper,
    changes: tuple[tuple[str, Any], ...] = (),
) -> FlamingoForConditionalGeneration:
    """Four LM blocks, gates at 0.5: at 0 every gradient inside a gated block is 0 and a test would prove nothing.

    No dropout, which draws for the whole batch in one process and for a share of it on a rank.
    """
    torch.manual_seed(0)
    text = AutoConfig.for_model(family, **TEXT[family], vocab_size=VOCABULARY, tie_word_embeddings=tied, pad_token_id=0)
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4
    )
    settings: dict[str, Any] = {
        "resampler_depth": 1,
        "resampler_latents": 12,
        "resampler_heads": 2,
        "resampler_head_width": 8,
        "initial_gate": 0.5,
        "num_new_tokens": 2,
        "first_new_token_id": VOCABULARY,
        "image_token_id": IMAGE,
        "eoc_token_id": EOC,
    }
    config = FlamingoConfig(text, vision, **settings | dict(changes))
    model = FlamingoForConditionalGeneration(config)
    table = freeze_rows(ModelConfig(freeze_preset=preset))
    apply_freeze_table(model, [FreezeRow(row.pattern, row.trainable) for row in table])
    return model


def global_batch(step: int, dataset: str, sequences: int = 4, without_images: tuple[int, ...] = ()) -> FlamingoBatch:
    """The whole batch of a step; sequences of different lengths, so ranks hold different numbers of tokens.

    Pairs have one or two images, which attention masks; pages have up to five of three tokens each, which it groups by
    image and reads without keys and values.
    """
    generator = torch.Generator().manual_seed(1000 * step + len(dataset))
    length, slots = 16, 2 if dataset == "pairs" else 5
    ids = torch.randint(1, VOCABULARY, (sequences, length), generator=generator)
    ids[:, 1] = IMAGE
    ids[1::2, 7] = IMAGE
    if dataset == "pages":
        ids[:, 1::3] = IMAGE
    ids[list(without_images)] = ids[list(without_images)].where(ids[list(without_images)] != IMAGE, 3)
    lengths = torch.randint(10, length + 1, (sequences,), generator=generator)
    mask = (torch.arange(length) < lengths[:, None]).long()
    ids = torch.where(mask == 1, ids, 0)
    labels = torch.where((mask == 1) & (ids != IMAGE), ids, IGNORED_LABEL)
    num_images = (ids == IMAGE).sum(1)
    return FlamingoBatch(
        input_ids=ids,
        labels=labels,
        attention_mask=mask,
        media_ids=(ids == IMAGE).cumsum(1),
        pixel_values=torch.randn(sequences, slots, 1, 3, 8, 8, generator=generator),
        num_images=num_images,
        num_frames=(torch.arange(slots) < num_images[:, None]).long(),
    )


def micro_batches(
    step: int, rank: int, world_size: int, micro_steps: int, without_images: tuple[int, ...] = ()
) -> list[MicroBatch]:
    """A rank's share of a step, cut into ``micro_steps``."""
    cut = []
    for dataset, weight in WEIGHTS.items():
        share = global_batch(step, dataset, without_images=without_images)[rank::world_size]
        size = len(share) // micro_steps
        for start in range(0, len(share), size):
            batch = share[start : start + size]
            if without_images:
                slots = max(1, int(batch.num_images.max()))
                shown = batch.num_frames[:, :slots]
                batch = replace(batch, pixel_values=batch.pixel_values[:, :slots], num_frames=shown)
            cut.append(MicroBatch(dataset, weight, batch))
    return cut


@dataclass(frozen=True)
class Layout:
    """What is trained, and how it is laid out; the defaults are one plain replica a rank.

    ``without_images``: sequences of the global batch that have none. A rank's micro-batches then have as many slots as
    they need, as the data pipeline cuts them, so neighbours differ in shape. ``offload``: what the CPU holds,
    ``optimizer``, or ``optimizer`` and ``param``. ``changes``: of the model's configuration.
    """

    zero: int = 1
    stages: int = 1
    shard_frozen: bool = False
    reshard: bool = True
    checkpoint_every: int = 0
    micro_steps: int = 1
    bf16: bool = False
    family: str = "llama"
    tied: bool = False
    preset: FreezePreset = FreezePreset.paper
    without_images: tuple[int, ...] = ()
    offload: tuple[str, ...] = ()
    changes: tuple[tuple[str, Any], ...] = ()

    def of(self, **changes: Any) -> "Layout":
        """The same with some changes."""
        return replace(self, **changes)

    def settings(self, steps: int) -> DeepSpeedSettings:
        """Thresholds of 0, so that stage 3 really shards such small weights."""
        zero: dict[str, Any] = {"stage": self.zero}
        if self.zero == 3:
            zero |= {"stage3_param_persistence_threshold": 0, "stage3_model_persistence_threshold": 0}
        zero |= {f"offload_{what}": {"device": "cpu"} for what in self.offload}
        content = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": steps if self.stages > 1 else 1,
            "gradient_clipping": OPTIMIZER.max_grad_norm,
            "bf16": {"enabled": self.bf16},
            "zero_optimization": zero,
            "steps_per_print": 10**9,
        }
        if self.offload:
            content["zero_force_ds_cpu_optimizer"] = False
        if self.stages > 1 and self.bf16:
            content["data_types"] = {"grad_accum_dtype": "fp32"}
        return DeepSpeedSettings(content, self.zero)

    def topology(self) -> Topology:
        """Of this rank."""
        return Topology(torch.distributed.get_rank(), torch.distributed.get_world_size(), self.stages)

    def plan(self, blocks: int = BLOCKS) -> ParallelPlan:
        """Of this rank."""
        bounds = tuple(blocks * stage // self.stages for stage in range(self.stages + 1))
        settings = self.settings(len(WEIGHTS) * self.micro_steps)
        return ParallelPlan(self.topology(), settings, bounds, self.shard_frozen, self.reshard, self.checkpoint_every)


def train_serial(steps: range, layout: Layout | None = None) -> Outcome:
    """The reference: plain PyTorch on the whole batch, by the definition of the loss; a layout's model and data."""
    layout = layout or Layout()
    model = tiny_model(layout.family, layout.tied, layout.preset, layout.changes)
    optimizer = build_optimizer(model, OPTIMIZER)
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    outcome = Outcome()
    for step in steps:
        losses = {}
        for dataset, weight in WEIGHTS.items():
            loss = model(**global_batch(step, dataset, without_images=layout.without_images).tensors()).loss
            (weight * loss).backward()
            losses[dataset] = loss.item()
        outcome.losses.append(losses)
        norm = torch.nn.utils.clip_grad_norm_(trainable.values(), OPTIMIZER.max_grad_norm)
        outcome.grad_norms.append(norm.item())
        for group in optimizer.param_groups:
            group["lr"] = RATES[step]
        optimizer.step()
        optimizer.zero_grad()
    for name, parameter in trainable.items():
        # CLIP has a norm behind the tokens that a Flamingo reads: it trains in name only.
        unused = {kind: torch.zeros_like(parameter) for kind in ("exp_avg", "exp_avg_sq")}
        outcome.state[name] = {"weight": parameter.detach(), **unused, **optimizer.state[parameter]}
    return outcome


def build(layout: Layout, weights: dict[str, torch.Tensor] | None = None) -> TrainEngine:
    """The tiny model laid out, its weights read one by one as a run reads them, ``weights`` before its own."""
    whole = tiny_model(layout.family, layout.tied, layout.preset, layout.changes)
    initial = whole.state_dict(keep_vars=False) | (weights or {})
    with parameters_on_meta():
        skeleton = tiny_model(layout.family, layout.tied, layout.preset, layout.changes)
    return build_engine(
        skeleton,
        lambda name: initial[name],
        layout.plan(),
        lambda model: build_optimizer(model, OPTIMIZER, fused=bool(layout.offload)),
        doing=lambda what: None,
    )


def train_steps(engine: TrainEngine, layout: Layout, steps: range) -> Outcome:
    """Train some steps and take the state out."""
    topology = layout.topology()
    outcome = Outcome()
    for step in steps:
        micro = micro_batches(step, topology.data_rank, topology.data_ranks, layout.micro_steps, layout.without_images)
        if not topology.is_first:
            micro = [MicroBatch(one.dataset, one.weight, one.batch[:0]) for one in micro]
        result = engine.train_step(micro, RATES[step], {"ranks": 1})
        assert result.counters == {"ranks": topology.world_size}
        outcome.losses.append(result.losses)
        outcome.grad_norms.append(result.grad_norm)
    outcome.state = dict(engine.full_state())
    outcome.logits = engine.logits(global_batch(99, "pages"))
    outcome.gates = engine.gates()
    return outcome


def train_parallel(layout: Layout, steps: range) -> Outcome:
    """The same training laid out over the ranks of the pool."""
    return train_steps(build(layout), layout, steps)


def whole_outcome(outcomes: list[Outcome]) -> Outcome:
    """What the ranks of one run gave, put together: every stage has its own part of the state."""
    first = outcomes[0]
    for other in outcomes[1:]:
        assert other.losses == first.losses
        assert other.grad_norms == first.grad_norms
        assert other.gates == first.gates
        first.state |= other.state
    return first
