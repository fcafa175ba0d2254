"""Bytes that a rank sends in a step and an estimate of the step's time, by formula. An estimate and no measurement.

    time = slowest rank's FLOPs / (peak x utilisation) x (M + S - 1) / M, but no less than what can be hidden behind it
           + what cannot be hidden

Collectives are counted as a ring does them: an all-gather or reduce-scatter of n bytes over D ranks sends
n (D - 1) / D, an all-reduce twice that. With weights of e bytes an element, P of them trainable, Q frozen and B those
that a backward pass walks through:

| layout | can be hidden | cannot be hidden |
| --- | --- | --- |
| ZeRO-0 | | all-reduce e P |
| ZeRO-1 | | all-reduce a P, all-gather e P |
| ZeRO-2 | all-reduce e P a micro-batch | all-gather e P |
| ZeRO-3 | all-gather e (P + Q + B), reduce-scatter e P, a micro-batch | |
| pipeline | | as ZeRO-1 of a stage; a micro-batch hidden states and latents, forward and back |
| the same, frozen weights sharded | all-gather e (Q + B), or e Q where they stay whole, a micro-batch | the same |

What is left out: the optimizer's own work, data loading, imbalance between ranks.
"""

from dataclasses import dataclass

from .costs import Batches, ModelCosts, crossing_bytes
from .memory import Buffers, Held, Layout
from .stages import StagePlan, stage_parts


@dataclass(frozen=True)
class Machine:
    """A cluster.

    Attributes:
        gpus_per_node: G.
        peak: FLOP/s of a GPU in the training precision.
        utilisation: share of it that products reach.
        in_node, between_nodes: bytes a second that a GPU sends.
    """

    gpus_per_node: int
    peak: float = 989e12
    utilisation: float = 0.4
    in_node: float = 300e9
    between_nodes: float = 40e9

    def bandwidth(self, neighbours: int) -> float:
        """Of a group of neighbouring ranks."""
        return self.in_node if self.gpus_per_node % neighbours == 0 else self.between_nodes


@dataclass(frozen=True)
class StepEstimate:
    """Of one step.

    Attributes:
        collectives, point_to_point: bytes that the busiest rank sends.
        compute, bubble, exposed: seconds; ``exposed`` is communication that nothing hides.
    """

    collectives: float
    point_to_point: float
    compute: float
    bubble: float
    exposed: float

    @property
    def communication(self) -> float:
        """Bytes in all."""
        return self.collectives + self.point_to_point

    @property
    def seconds(self) -> float:
        """Of the step."""
        return self.compute + self.bubble + self.exposed


def estimate_zero(costs: ModelCosts, layout: Layout, batches: Batches, buffers: Buffers, on: Machine) -> StepEstimate:
    """Of a data-parallel layout."""
    held = Held.of(costs.sizes.items())
    element, count = costs.dtype.itemsize, sum(number for _, number in batches)
    trainable, frozen = sum(held.trainable), sum(held.frozen)
    ring = (layout.data - 1) / layout.data
    weights, gradients = element * trainable, (buffers.gradient_element or element) * trainable
    hidden = {
        2: 2 * weights * count,
        3: element * (trainable + frozen + sum(held.blocks) + trainable) * count,
    }.get(layout.zero_stage, 0)
    open_ = {0: 2 * weights, 1: 2 * gradients + weights, 2: weights, 3: 0}[layout.zero_stage]
    flops = sum(costs.step_flops(batches, layout.every).values())
    return _estimate(flops, 1.0, ring * hidden, ring * open_, 0.0, layout, on)


def estimate_pipeline(
    costs: ModelCosts, plan: StagePlan, layout: Layout, batches: Batches, buffers: Buffers, on: Machine
) -> StepEstimate:
    """Of pipeline x data, the slowest of its stages."""
    element, count = costs.dtype.itemsize, sum(number for _, number in batches)
    ring = (layout.data - 1) / layout.data
    crossing = sum(number * crossing_bytes(costs.activations(shape, layout.every), shape) for shape, number in batches)
    slowest = max(plan.flops)
    estimates = []
    for stage in range(layout.stages):
        held = Held.of(stage_parts(costs, plan.bounds, stage).items())
        trainable, frozen = sum(held.trainable), sum(held.frozen)
        gathered = 0
        if layout.shard_frozen:
            again = sum(size for size in held.block_frozen) if layout.reshard else 0
            gathered = element * (frozen + again) * count
        reduced = (2 * (buffers.gradient_element or element) + element) * trainable
        sides = (stage > 0) + (stage < layout.stages - 1)
        bubble = (count + layout.stages - 1) / count
        estimates.append(_estimate(slowest, bubble, ring * gathered, ring * reduced, sides * crossing, layout, on))
    return max(estimates, key=lambda estimate: estimate.seconds)


def _estimate(
    flops: float, bubble: float, hidden: float, open_: float, point_to_point: float, layout: Layout, on: Machine
) -> StepEstimate:
    compute = flops / (on.peak * on.utilisation)
    bandwidth = on.bandwidth(layout.data)
    # Neighbouring ranks are of one stage: the next stage's rank is D further, in the node while the pipeline fits it.
    crossing = point_to_point / on.bandwidth(layout.ranks)
    exposed = max(0.0, hidden / bandwidth - compute) + open_ / bandwidth + crossing
    return StepEstimate(hidden + open_, point_to_point, compute, compute * (bubble - 1), exposed)
