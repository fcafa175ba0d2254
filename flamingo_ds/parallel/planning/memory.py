"""Bytes of one rank, layout by layout: what DeepSpeed 0.19 and FSDP2 allocate, counted.

Legend: P elements that train, Q elements that are frozen, e bytes of an element in training precision, a bytes of an
element of accumulated gradients, D data-parallel ranks, S pipeline stages, M micro-batches of a rank and step.

What each ZeRO stage keeps on a rank, read in the source and compared with tiny engines on two ranks:

| | weights | gradients | masters and moments | buffers |
| --- | --- | --- | --- | --- |
| 0 (fp32 only) | e (P + Q) | e P | 8 P | |
| 1 | e (P + Q) | e P | 12 P / D | reduce bucket |
| 1, a = 4 in bf16 | e (P + Q) | e P + 4 P | 12 P / D | |
| 2 | e (P + Q) | two shards, old and new: 2 a P / D | 12 P / D | reduce bucket, two with overlap_comm |
| 3 | e (P + Q) / D | a P / D | 12 P / D | reduce bucket and its copy, and what is gathered |

A shard is rounded up, in stage 3 for every parameter. On top of that come the activations during forward and backward,
or the optimizer step's temporary copies; the two do not meet, so the larger counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import ceil

from .activations import ActivationBytes
from .parts import PartSizes

MASTER_AND_MOMENTS = 12
MOMENTS = 8


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
        weights, gradients, optimizer, buffers: there all through forward and backward pass.
        gathered: whole weights that are sharded at rest, at their worst moment.
        activations: of all micro-batches in flight, their inputs, and what is computed for a moment.
        step: gradients and temporary copies of the optimizer step, when activations and whole weights are gone.
    """

    weights: int
    gradients: int
    optimizer: int
    buffers: int
    gathered: int
    activations: int
    step: int

    @property
    def resting(self) -> int:
        """Between two steps."""
        return self.weights + self.optimizer

    @property
    def total(self) -> int:
        """The most at any moment."""
        passes = self.weights + self.gradients + self.optimizer + self.buffers + self.gathered + self.activations
        return max(passes, self.weights + self.optimizer + self.step)


@dataclass(frozen=True)
class Held:
    """Parameters of one rank's model: a whole Flamingo's or one stage's, in the order of the forward pass.

    Attributes:
        frozen, trainable: elements of each parameter.
        blocks: elements of each part that a backward pass walks through.
        block_frozen: the frozen ones among these.
        units: frozen elements of each module that is gathered at once.
        largest_group: elements of each parameter in the larger of the optimizer's two groups.
    """

    frozen: list[int] = field(default_factory=list)
    trainable: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    block_frozen: list[int] = field(default_factory=list)
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
        held.largest_group.extend(max(groups.values(), key=sum))
        return held


def zero_memory(
    held: Held, layout: Layout, activations: int, element: int, micro_batches: int, buffers: Buffers, foreach: bool
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
    """
    trainable, everything = sum(held.trainable), sum(held.frozen) + sum(held.trainable)
    gradient = buffers.gradient_element or element
    bucket = element * buffers.reduce_bucket_size * (2 if buffers.overlap_comm else 1)
    if layout.zero_stage == 0:
        return RankMemory(
            weights=element * everything,
            gradients=element * trainable,
            optimizer=MOMENTS * trainable,
            buffers=0,
            gathered=0,
            activations=activations,
            step=element * trainable + (4 * trainable if foreach else 8 * max(held.trainable)),
        )
    shard, group = _shard(held.trainable, layout), _shard(held.largest_group or held.trainable, layout)
    optimizer = MASTER_AND_MOMENTS * shard
    # The gradients' shard, then of one optimizer group at a time: flat, in fp32, and what AdamW makes of it.
    copies = gradient + (0 if gradient == 4 else 4) + (4 if foreach else 8)
    step = gradient * shard + copies * group
    if layout.zero_stage == 3:
        bucket = element * buffers.reduce_bucket_size  # one, and a copy of what is in it while it is reduced
        step = gradient * shard + bucket + copies * min(group, ceil(buffers.sub_group_size / layout.data))
        weights, gathered = _stage3_weights(held, layout, element, buffers)
        bucket += element * min(buffers.reduce_bucket_size, trainable)
        return RankMemory(weights, gradient * shard, optimizer, bucket, gathered, activations, step)
    if layout.zero_stage == 2:
        gradients = gradient * shard * (2 if micro_batches > 1 else 1)
    elif gradient != element:
        gradients, bucket = (element + gradient) * trainable, 0
        step = gradients + (4 if foreach else 8) * group
    else:
        gradients = element * trainable
    return RankMemory(element * everything, gradients, optimizer, bucket, 0, activations, step)


def _shard(trainable: Sequence[int], layout: Layout) -> int:
    """Elements of a rank's share of what trains."""
    if layout.zero_stage == 3:
        return sum(ceil(count / layout.data) for count in trainable)
    return ceil(sum(trainable) / (2 * layout.data)) * 2


def _stage3_weights(held: Held, layout: Layout, element: int, buffers: Buffers) -> tuple[int, int]:
    """Resting bytes, and those of gathered weights at the worst moment.

    Small parameters stay whole. A module's weights are given back behind it unless they are used again within
    ``stage3_max_reuse_distance`` elements; from a block's forward to its backward pass lies twice all that follows it,
    so that at the turning point the last blocks up to half that distance are whole, besides the module at hand
    and what is fetched ahead.
    """
    resting = whole = 0
    for count in sorted([*held.frozen, *held.trainable]):
        resting += ceil(count / layout.data)
        if count < buffers.stage3_param_persistence_threshold and (
            whole + count <= buffers.stage3_model_persistence_threshold
        ):
            whole += count
    reused = distance = 0
    for block in reversed(held.blocks):
        if 2 * distance >= buffers.stage3_max_reuse_distance:
            break
        distance += block
        reused += block
    largest = max([*held.blocks, *held.frozen, *held.trainable])
    ahead = min(buffers.stage3_prefetch_bucket_size, buffers.stage3_max_live_parameters)
    live = min(max(reused, largest + ahead), sum(held.frozen) + sum(held.trainable))
    return element * (resting + whole), element * max(live - whole, 0)


def in_flight(micro_batches: Sequence[int], most: int) -> int:
    """The largest sum of ``most`` neighbours: bytes of the micro-batches that a stage keeps at once."""
    most = min(most, len(micro_batches))
    return max(sum(micro_batches[start : start + most]) for start in range(len(micro_batches) - most + 1))


def largest(counted: Iterable[tuple[ActivationBytes, int]]) -> int:
    """Of several kinds of micro-batches, each with its inputs' bytes."""
    return max(activations.peak + inputs for activations, inputs in counted)
