"""What a model costs: parameters, activations and FLOPs of its parts, each counted once."""

from collections.abc import Sequence
from functools import cached_property

import torch

from ...model import FlamingoForConditionalGeneration
from ...model.flops import PartFlops, count_flops, vision_flops
from .activations import ActivationBytes, count_activations
from .batch_shape import BatchShape
from .parts import PartSizes, part_sizes, tied_sizes

Batches = Sequence[tuple[BatchShape, int]]  # a rank's micro-batches of a step: shape, how many


class ModelCosts:
    """What a model costs, counted once for each shape and setting of activation checkpointing.

    Args:
        model: may be on the meta device; what trains is read from ``requires_grad``.
        dtype: of training.
        device_type: ``cuda`` or ``cpu``; see :func:`~flamingo_ds.parallel.planning.activations.count_activations`.
    """

    def __init__(
        self, model: FlamingoForConditionalGeneration, dtype: torch.dtype = torch.bfloat16, device_type: str = "cuda"
    ) -> None:
        self.model, self.dtype, self.device_type = model, dtype, device_type
        self.depth: int = model.config.text_config.num_hidden_layers
        self.counted: dict[tuple[BatchShape, int], ActivationBytes] = {}
        self.flops: dict[tuple[int, int, int], dict[str, PartFlops]] = {}
        self.vision: dict[int, tuple[float, int]] = {}

    @cached_property
    def sizes(self) -> dict[str, PartSizes]:
        """Parameters of each part."""
        return part_sizes(self.model)

    @cached_property
    def tied(self) -> PartSizes:
        """What the last stage holds a second time."""
        return tied_sizes(self.model)

    def activations(self, shape: BatchShape, every: int) -> ActivationBytes:
        """Of a micro-batch."""
        key = (shape, every)
        if key not in self.counted:
            self.counted[key] = count_activations(self.model, shape, self.dtype, every, self.device_type)
        return self.counted[key]

    def step_flops(self, batches: Batches, every: int) -> dict[str, int]:
        """Of a rank's whole step by part: forward, backward, and forward again where it is recomputed."""
        totals: dict[str, int] = {}
        for shape, count in batches:
            key = (shape.tokens, shape.frames, shape.image_size)
            if key not in self.flops:
                size = shape.image_size
                if size not in self.vision:
                    self.vision[size] = vision_flops(self.model, size)
                self.flops[key] = count_flops(self.model, *key, self.vision[size])
            units = {"token": shape.sequences * shape.tokens, "image": shape.sequences * shape.images}
            for name, part in self.flops[key].items():
                once = part.forward + part.backward
                if every and part.backward and name not in ("vision", "head"):
                    once += part.forward / every
                stage_part = "vision" if name == "resampler" else name.removesuffix("/media")
                totals[stage_part] = totals.get(stage_part, 0) + round(count * units[part.unit] * once)
        return totals


def kept_and_transient(costs: ModelCosts, every: int, batches: Batches, names: Sequence[str]) -> tuple[int, int]:
    """Of some parts: bytes kept for a micro-batch in flight, and the most at any moment besides."""
    kept = transient = 0
    for shape, _ in batches:
        parts = [part for name, part in costs.activations(shape, every).parts.items() if name in names]
        kept = max(kept, sum(part.kept for part in parts))
        transient = max([transient, *(max(part.backward, part.forward - part.kept) for part in parts)])
    return kept, transient


def input_bytes(batches: Batches, element: int) -> int:
    """Of the largest micro-batch as it is read."""
    return max(shape.input_bytes(element) for shape, _ in batches)


def largest_crossing(costs: ModelCosts, batches: Batches, every: int) -> int:
    """Of the largest micro-batch over one boundary."""
    return max(crossing_bytes(costs.activations(shape, every), shape) for shape, _ in batches)


def crossing_bytes(activations: ActivationBytes, shape: BatchShape) -> int:
    """What crosses a stage, forward: hidden states and latents, and three ids a token."""
    return activations.hidden + activations.latents + 3 * 8 * shape.sequences * shape.tokens
