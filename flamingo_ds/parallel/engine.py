"""What the training loop knows of a layout: nothing but this."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ..batch import FlamingoBatch

Doing = Callable[[str], None]
"""Told in a few words what a rank does next; all ranks say the same in the same order (see ``Watchdog.doing``)."""


class WeightedBatch(Protocol):
    """One forward pass's worth of one dataset."""

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        ...

    @property
    def weight(self) -> float:
        """Lambda of the dataset."""
        ...

    @property
    def batch(self) -> FlamingoBatch:
        """This rank's sequences."""
        ...


@dataclass(frozen=True)
class StepResult:
    """What an optimizer step tells, equal on all ranks.

    Attributes:
        losses: mean cross-entropy of each dataset over the tokens of the whole global batch, before its weight.
        loss: their weighted sum, what was minimised.
        grad_norm: global norm before clipping.
        counters: the callers' counters, summed over all ranks.
    """

    losses: dict[str, float]
    loss: float
    grad_norm: float
    counters: dict[str, int]

    @classmethod
    def of(
        cls,
        micro_batches: Iterable[WeightedBatch],
        losses: dict[str, float],
        grad_norm: float,
        counters: dict[str, int],
    ) -> "StepResult":
        """With the losses weighted as their micro-batches are."""
        weights = {micro.dataset: micro.weight for micro in micro_batches}
        return cls(losses, sum(weights[name] * loss for name, loss in losses.items()), grad_norm, counters)


class TrainEngine(Protocol):
    """A model laid out over ranks.

    Every method but :meth:`share` is collective: all ranks call it, in the same order.
    """

    def train_step(
        self, micro_batches: Sequence[WeightedBatch], learning_rate: float, counters: Mapping[str, int]
    ) -> StepResult:
        """Forward, backward and optimizer step over the micro-batches of this rank.

        ``counters`` has the same keys on all ranks; they are summed along, in a reduction that is needed anyway.
        """
        ...

    def eval_loss(self, batches: Sequence[FlamingoBatch]) -> float:
        """Mean cross-entropy over the predicted tokens of all ranks' micro-batches, in eval mode; equal on all ranks.

        All ranks give as many micro-batches, those that read nothing empty ones. Nothing that training goes on with
        changes: no weight, no gradient, no random state.
        """
        ...

    def logits(self, batch: FlamingoBatch) -> torch.Tensor:
        """(B, L, V) in eval mode, on this rank's batch, on the CPU."""
        ...

    def gates(self) -> dict[str, float]:
        """Tanh of every gate by ``gate/BLOCK/attn`` and ``gate/BLOCK/ffw``; none where the blocks have none."""
        ...

    def share(self) -> tuple[int, int]:
        """This rank's place among the ranks whose :meth:`full_state` is the same, and how many they are."""
        ...

    def full_state(self) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        """For each trainable parameter its canonical name, fp32 ``weight``, ``exp_avg`` and ``exp_avg_sq``, whole.

        Of this rank's stage only, where there are several; all stages together give each name once.
        """
        ...

    def load_full_state(self, state: Mapping[str, Mapping[str, torch.Tensor]], step: int) -> None:
        """The inverse of :meth:`full_state`: ``state`` by canonical name, of which the engine asks for its own.

        ``step`` is the number of optimizer steps done.
        """
        ...
