"""Bytes of a rank in each kind of layout: the model's costs put into :mod:`memory`'s arithmetic."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil

from .costs import Batches, ModelCosts, input_bytes, kept_and_transient, largest_crossing
from .memory import AHEAD, Buffers, Held, Layout, RankMemory, zero_memory
from .parts import PartSizes


def data_parallel_memory(costs: ModelCosts, layout: Layout, batches: Batches, buffers: Buffers) -> RankMemory:
    """Any rank of ZeRO 0 to 3."""
    element = costs.dtype.itemsize
    entering = peak = 0
    for shape, _ in batches:
        counted = costs.activations(shape, layout.every)
        entering = max(entering, counted.parts["vision"].forward + shape.input_bytes(element))
        peak = max(peak, counted.peak + shape.input_bytes(element))
    count = sum(number for _, number in batches)
    foreach = costs.device_type != "cpu"
    return zero_memory(Held.of(costs.sizes.items()), layout, peak, element, count, buffers, foreach, entering)


def stage_memory(
    costs: ModelCosts,
    layout: Layout,
    batches: Batches,
    buffers: Buffers,
    parts: Mapping[str, PartSizes],
    flights: int,
) -> RankMemory:
    """A rank of a pipeline's stage.

    The first stage keeps the inputs of every micro-batch in flight until others take their place; the last one, through
    its losses, what it received and the gradients of that.

    Args:
        costs: of the model.
        layout: S, D, sharding and checkpointing.
        batches: micro-batches of one data-parallel rank in a step.
        buffers: of the DeepSpeed configuration.
        parts: of the stage.
        flights: micro-batches between their forward and backward pass at once.
    """
    element = costs.dtype.itemsize
    kept, transient = kept_and_transient(costs, layout.every, batches, list(parts))
    packed = largest_crossing(costs, batches, layout.every)
    standing = packed  # where DeepSpeed receives
    if "vision" in parts:
        inputs = input_bytes(batches, element)
        kept, standing = kept + inputs, standing + (flights + 1) * inputs
    elif "head" in parts:
        standing += 2 * packed * min(2, sum(number for _, number in batches))
    # In flight is what leaves or what came in, and at one moment the gradient of that.
    activations = flights * (kept + packed) + transient + packed
    one_stage = replace(layout, zero_stage=1, stages=1)
    count = sum(number for _, number in batches)
    foreach = costs.device_type != "cpu"
    held = Held.of(parts.items())
    rank = zero_memory(held, one_stage, activations, element, count, replace(buffers, overlap_comm=False), foreach)
    frozen, gathered = frozen_bytes(parts, layout, element)
    weights = element * sum(held.trainable) + frozen
    return replace(rank, weights=weights, standing=rank.standing + standing, gathered=gathered)


def frozen_bytes(parts: Mapping[str, PartSizes], layout: Layout, element: int) -> tuple[int, int]:
    """Frozen weights of a stage, at rest, and gathered at the worst moment.

    A gathered unit is there as what the collective gave and as parameters. Where units stay whole until their backward
    pass, all that have one are whole at once, and one of them twice.
    """
    sizes = parts.values()
    whole = sum(sum(size.frozen) for size in sizes)
    if not layout.shard_frozen or layout.data == 1:
        return element * whole, 0
    resting = sum(ceil(count / layout.data) for size in sizes for count in size.frozen)
    largest = max((unit for size in sizes for unit in size.units), default=0)
    walked = sum(sum(size.frozen) for name, size in parts.items() if name not in AHEAD)
    return element * resting, element * max(2 * largest, 0 if layout.reshard else walked + largest)


def all_stages(
    costs: ModelCosts, layout: Layout, batches: Batches, buffers: Buffers, parts: Sequence[Mapping[str, PartSizes]]
) -> tuple[RankMemory, ...]:
    """A rank of each stage; the first of S stages has S micro-batches in flight, the last one has one."""
    count = sum(number for _, number in batches)
    return tuple(
        stage_memory(costs, layout, batches, buffers, held, min(layout.stages - stage, count))
        for stage, held in enumerate(parts)
    )
