"""Bytes of one rank, layout by layout: what DeepSpeed 0.19 and FSDP2 allocate, counted.

Legend: P elements that train, Q elements that are frozen, e bytes of an element in training precision, a bytes of an
element of accumulated gradients, D data-parallel ranks, S pipeline stages, M micro-batches of a rank and step.

What each ZeRO stage keeps on a rank, read in the source and measured on running engines (tools/measure_layouts.py):

| | weights | gradients | masters and moments | buffers |
| --- | --- | --- | --- | --- |
| 0 (fp32 only) | e (P + Q) | e P, and again flat while they are averaged | 8 P | |
| 1 | e (P + Q) | e P | 12 P / D | reduce bucket |
| 1, a = 4 in bf16 | e (P + Q) | 4 P, always; e P; then 4 P and e P flat while they are averaged | 12 P / D | |
| 2 | e (P + Q) | a P / D, and again what the last micro-batch adds | 12 P / D | reduce bucket, two with overlap_comm |
| 3 | e (P + Q) / D | a P / D, always | 12 P / D | reduce bucket, always, and its copy; what is gathered |

A shard is rounded up, in stage 3 for every parameter. On top of that come the activations during forward and backward,
or the optimizer step's temporary copies; the two do not meet, so the larger counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import ceil

from .parts import PartSizes

MASTER_AND_MOMENTS = 12
MOMENTS = 8
FLAT_GRADIENTS = 500_000_000
"""Elements of gradients that DeepSpeed's plain all-reduce takes at once."""


@dataclass(frozen=True)
class Layout:
    """How a model is laid out; a pipeline (S > 1) goes with ZeRO stage 1.

    Attributes:
        zero_stage: 0 to 3.
        data: D.
        stages: S.
        shard_frozen: frozen weights sharded over the D ranks of a stage (pipeline only).
        reshard: give gathered frozen weights back after the forward pass.
        every: activation checkpointing of every n-th block, 0 for none.
    """

    zero_stage: int
    data: int
    stages: int = 1
    shard_frozen: bool = False
    reshard: bool = True
    every: int = 0

    @property
    def ranks(self) -> int:
        """GPUs in all."""
        return self.data * self.stages

    @property
    def name(self) -> str:
        """For tables; checkpointing apart."""
        if self.stages == 1:
            return f"ZeRO-{self.zero_stage} on {self.data}"
        sharded = ", frozen sharded" if self.shard_frozen else ""
        return f"pipeline {self.stages} x data {self.data}{sharded}{'' if self.reshard else ', kept whole'}"


@dataclass(frozen=True)
class Buffers:
    """Keys of DeepSpeed's configuration that cost memory, in elements; the defaults are DeepSpeed's own."""

    reduce_bucket_size: int = 500_000_000
    overlap_comm: bool | None = None
    stage3_prefetch_bucket_size: int = 50_000_000
    stage3_param_persistence_threshold: int = 100_000
    stage3_model_persistence_threshold: int = 2**63
    stage3_max_live_parameters: int = 1_000_000_000
    stage3_max_reuse_distance: int = 1_000_000_000
    sub_group_size: int = 1_000_000_000
    gradient_element: int | None = None
    """a: bytes of accumulated gradients (``data_types.grad_accum_dtype``); None: as training precision."""

    @classmethod
    def of(cls, content: Mapping[str, object]) -> "Buffers":
        """From a DeepSpeed configuration."""
        zero = content.get("zero_optimization", {})
        assert isinstance(zero, Mapping)
        known = {entry.name: zero[entry.name] for entry in fields(cls) if entry.name in zero}
        types = content.get("data_types", {})
        if isinstance(types, Mapping) and types.get("grad_accum_dtype"):
            known["gradient_element"] = 4 if types["grad_accum_dtype"] in ("fp32", "float32") else 2
        return cls(**known)


@dataclass(frozen=True)
class RankMemory:
    """Bytes of a rank.

    Attributes:
        weights, optimizer: there always.
        standing: gradients and buffers that are there always.
        gradients, buffers: the others, through forward and backward pass.
        gathered: whole weights that are sharded at rest, at the worst moment.
        activations: of all micro-batches in flight, their inputs, and what is computed for a moment; at that moment.
        step: gradients and temporary copies of the optimizer step, when activations and whole weights are gone.
    """

    weights: int
    optimizer: int
    standing: int
    gradients: int
    buffers: int
    gathered: int
    activations: int
    step: int

    @property
    def resting(self) -> int:
        """Between two steps."""
        return self.weights + self.optimizer + self.standing

    @property
    def total(self) -> int:
        """The most at any moment."""
        passes = self.gradients + self.buffers + self.gathered + self.activations
        return self.resting + max(passes, self.step)


AHEAD = ("vision", "embedding")


@dataclass(frozen=True)
class Held:
    """Parameters of one rank's model: a whole Flamingo's or one stage's, in the order of the forward pass.

    Attributes:
        frozen, trainable: elements of each parameter.
        blocks: elements of each part that a backward pass walks through.
        block_frozen: the frozen ones among these.
        ahead: frozen elements in front of everything that trains, the resampler apart, which no backward pass needs.
        units: frozen elements of each module that is gathered at once.
        largest_group: elements of each parameter in the larger of the optimizer's two groups.
    """

    frozen: list[int] = field(default_factory=list)
    trainable: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    block_frozen: list[int] = field(default_factory=list)
    ahead: list[int] = field(default_factory=list)
    units: list[int] = field(default_factory=list)
    largest_group: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, parts: Iterable[tuple[str, PartSizes]]) -> "Held":
        """Some of a model's parts."""
        held = cls()
        groups: dict[bool, list[int]] = {True: [], False: []}
        for name, part in parts:
            for decays in groups:
                pairs = zip(part.trainable, part.decays, strict=True)
                groups[decays].extend(size for size, its in pairs if its == decays)
            held.frozen.extend(part.frozen)
            held.trainable.extend(part.trainable)
            held.units.extend(part.units)
            if name.startswith(("gated/", "lm/", "head")):
                held.blocks.append(sum(part.frozen) + sum(part.trainable))
                held.block_frozen.append(sum(part.frozen))
            elif name in AHEAD:
                held.ahead.extend(part.frozen)
        held.largest_group.extend(max(groups.values(), key=sum))
        return held


def zero_memory(
    held: Held,
    layout: Layout,
    activations: int,
    element: int,
    micro_batches: int,
    buffers: Buffers,
    foreach: bool,
    entering: int = 0,
) -> RankMemory:
    """A rank of a data-parallel layout, or of a pipeline's stage (as stage 1).

    Args:
        held: parameters of the rank's model.
        layout: the layout.
        activations: at the worst moment, with the inputs.
        element: e.
        micro_batches: M.
        buffers: of the DeepSpeed configuration.
        foreach: whether AdamW steps on all tensors at once, as torch's does on a GPU.
        entering: activations, with the inputs, while the first layers run; only stage 3 asks for them.
    """
    trainable = sum(held.trainable)
    weights = element * (sum(held.frozen) + trainable)
    copies = 4 if foreach else 8  # AdamW's own, an element
    if layout.zero_stage == 0:
        updates = copies * (trainable if foreach else max(held.trainable))
        return RankMemory(
            weights=weights,
            optimizer=MOMENTS * trainable,
            standing=0,
            gradients=element * trainable,
            buffers=0,
            gathered=0,
            activations=activations,
            step=element * trainable + max(element * min(trainable, FLAT_GRADIENTS), updates),
        )
    shard, group = _shard(held.trainable, layout), _shard(held.largest_group or held.trainable, layout)
    optimizer = MASTER_AND_MOMENTS * shard
    gradient = buffers.gradient_element or element
    if layout.zero_stage == 3:
        return _stage3(held, layout, (entering, activations), element, buffers, copies)
    if gradient != element:  # BF16_Optimizer: fp32 sums that are never given back, reduced in bf16
        flat = (gradient + element) * min(trainable, FLAT_GRADIENTS)
        return RankMemory(
            weights=weights,
            optimizer=optimizer,
            standing=gradient * trainable,
            gradients=element * trainable,
            buffers=gradient * max(held.trainable),  # one gradient in fp32 while it is added
            gathered=0,
            activations=activations,
            step=element * trainable + max(flat, copies * group),
        )
    bucket = element * buffers.reduce_bucket_size * (2 if buffers.overlap_comm else 1)
    step = gradient * shard + (4 + copies) * group  # all gradients; of one group at a time fp32 ones, and AdamW's
    gradients = element * trainable
    if layout.zero_stage == 2:
        # What the earlier micro-batches gave; the last one's own shard grows as the activations shrink.
        gradients = gradient * shard * (micro_batches > 1)
        step = max(step, 2 * gradients + bucket)
    return RankMemory(weights, optimizer, 0, gradients, bucket, 0, activations, step)


def _shard(trainable: Sequence[int], layout: Layout) -> int:
    """Elements of a rank's share of what trains."""
    if layout.zero_stage == 3:
        return sum(ceil(count / layout.data) for count in trainable)
    return ceil(sum(trainable) / (2 * layout.data)) * 2


def _stage3(
    held: Held, layout: Layout, activations: tuple[int, int], element: int, buffers: Buffers, copies: int
) -> RankMemory:
    """Stage 3, see :func:`zero_memory`.

    Small parameters stay whole. Every module that is about to run makes the next ``stage3_prefetch_bucket_size``
    elements be fetched, whether it has weights or not, so that weights are soon whole up to
    ``stage3_max_live_parameters``, and the parameter that went beyond. They are given back behind their module unless
    they are used again within ``stage3_max_reuse_distance``: from a block's forward to its backward pass lies twice all
    that follows it, so at the turning point the last blocks up to half that distance are whole. What stands in front of
    all that trains is whole at the beginning only, where there are few activations.
    """
    shard, group = _shard(held.trainable, layout), _shard(held.largest_group or held.trainable, layout)
    gradient = buffers.gradient_element or element
    resting = whole = 0
    for count in sorted([*held.frozen, *held.trainable]):
        resting += ceil(count / layout.data)
        if count < buffers.stage3_param_persistence_threshold and (
            whole + count <= buffers.stage3_model_persistence_threshold
        ):
            whole += count
    reused = 0
    for block in reversed(held.blocks):
        if 2 * reused >= buffers.stage3_max_reuse_distance:
            break
        reused += block
    everything = sum(held.frozen) + sum(held.trainable)
    live = max(buffers.stage3_max_live_parameters, reused) + max([*held.frozen, *held.trainable])
    gathered, active = max(
        (
            (element * max(min(live, there) - whole, 0), active)
            for there, active in zip((everything, everything - sum(held.ahead)), activations, strict=True)
        ),
        key=sum,
    )
    return RankMemory(
        weights=element * (resting + whole),
        optimizer=MASTER_AND_MOMENTS * shard,
        standing=gradient * shard + element * buffers.reduce_bucket_size,
        gradients=0,
        buffers=element * min(buffers.reduce_bucket_size, sum(held.trainable)),
        gathered=gathered,
        activations=active,
        step=(4 + copies) * min(group, ceil(buffers.sub_group_size / layout.data)),
    )
