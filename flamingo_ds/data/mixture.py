"""Every optimizer step takes one batch from every dataset (paper, section 2.4: accumulation, not round robin)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..batch import FlamingoBatch
from ..config import BatchPlan
from .collate import collate
from .dataset import ShardDataset


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass of one rank takes; ``weight`` is the dataset's lambda."""

    dataset: str
    weight: float
    batch: FlamingoBatch


class MixtureOutline:
    """The micro-batches of every step without a sequence in them, for ranks that read nothing.

    Such as the later stages of a pipeline: they take the same kinds of batch in the same order as those that read.

    Args:
        plans: how each dataset's share of a step is cut, in the recipe's order.
        weights: lambda of each dataset, in the same order.
    """

    def __init__(self, plans: Sequence[BatchPlan], weights: Sequence[float]) -> None:
        self.plans, self.weights = plans, weights

    def __iter__(self) -> Iterator[list[MicroBatch]]:
        return self

    def __next__(self) -> list[MicroBatch]:
        """The micro-batches of one step of this rank."""
        return [
            MicroBatch(plan.dataset, weight, self._draw(number))
            for number, (plan, weight) in enumerate(zip(self.plans, self.weights, strict=True))
            for _ in range(plan.micro_steps)
        ]

    def _draw(self, number: int) -> FlamingoBatch:
        """A micro-batch of dataset ``number``."""
        return FlamingoBatch.empty()

    def bad_samples(self) -> dict[str, int]:
        """How many samples of each dataset this rank passed over so far; the same keys on all ranks."""
        return {f"bad_samples/{plan.dataset}": 0 for plan in self.plans}

    def state_dict(self) -> dict[str, Any]:
        """Every dataset's position, as JSON can hold it."""
        return {}

    def load_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on behind a saved run; ``states`` are of all its ranks that read."""


class Mixture(MixtureOutline):
    """All datasets, drawn from in the recipe's order: the same kinds of batch in the same order on all ranks.

    Args:
        datasets: in the recipe's order.
        plans, weights: see :class:`MixtureOutline`.
        image_shape: (C, H, W) after the transform.
    """

    def __init__(
        self,
        datasets: Sequence[ShardDataset],
        plans: Sequence[BatchPlan],
        weights: Sequence[float],
        image_shape: tuple[int, int, int],
    ) -> None:
        super().__init__(plans, weights)
        assert [dataset.name for dataset in datasets] == [plan.dataset for plan in plans]
        self.datasets, self.image_shape = datasets, image_shape

    def _draw(self, number: int) -> FlamingoBatch:
        dataset, size = self.datasets[number], self.plans[number].micro_batch_size
        return collate(list(islice(dataset, size)), dataset.rules.tokenizer.pad_token_id, self.image_shape)

    def bad_samples(self) -> dict[str, int]:
        """How many samples of each dataset this rank passed over so far; the same keys on all ranks."""
        return {f"bad_samples/{dataset.name}": dataset.bad.kinds.total() for dataset in self.datasets}

    def state_dict(self) -> dict[str, Any]:
        """Every dataset's position, as JSON can hold it."""
        return {dataset.name: dataset.state_dict() for dataset in self.datasets}

    def load_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on behind a saved run; ``states`` are of all its ranks that read, in their order.

        As many as now: bit for bit the run that never stopped. Another number: no sample of an epoch is lost or read
        twice, and the sum of the counts of bad samples stays.

        Raises:
            KeyError: a dataset that the saved run did not have.
            ConfigError: a dataset has another number of shards than it had.
        """
        for dataset in self.datasets:
            dataset.load_states([state[dataset.name] for state in states])
