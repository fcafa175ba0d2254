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


class Mixture:
    """All datasets, drawn from in the recipe's order: the same kinds of batch in the same order on all ranks.

    Args:
        datasets: in the recipe's order.
        plans: how each dataset's share of a step is cut, in the same order.
        weights: lambda of each dataset.
        image_shape: (C, H, W) after the transform.
    """

    def __init__(
        self,
        datasets: Sequence[ShardDataset],
        plans: Sequence[BatchPlan],
        weights: Sequence[float],
        image_shape: tuple[int, int, int],
    ) -> None:
        assert [dataset.name for dataset in datasets] == [plan.dataset for plan in plans]
        self.datasets, self.plans, self.weights = datasets, plans, weights
        self.image_shape = image_shape

    def __iter__(self) -> Iterator[list[MicroBatch]]:
        return self

    def __next__(self) -> list[MicroBatch]:
        """The micro-batches of one step of this rank."""
        return [
            MicroBatch(dataset.name, weight, self._draw(dataset, plan.micro_batch_size))
            for dataset, plan, weight in zip(self.datasets, self.plans, self.weights, strict=True)
            for _ in range(plan.micro_steps)
        ]

    def _draw(self, dataset: ShardDataset, count: int) -> FlamingoBatch:
        return collate(list(islice(dataset, count)), dataset.rules.tokenizer.pad_token_id, self.image_shape)

    def bad_samples(self) -> dict[str, int]:
        """How many samples each dataset passed over so far; the same keys on all ranks."""
        return {f"bad_samples/{dataset.name}": dataset.bad.kinds.total() for dataset in self.datasets}

    def state_dict(self) -> dict[str, Any]:
        """Every dataset's position."""
        return {dataset.name: dataset.state_dict() for dataset in self.datasets}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from saved positions.

        Raises:
            KeyError: a dataset that the saved run did not have.
        """
        for dataset in self.datasets:
            dataset.load_state_dict(state[dataset.name])
