"""Every optimizer step takes one batch from every dataset (paper, section 2.4: accumulation, not round robin).

Round robin, one dataset a step, is there for the ablation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..batch import FlamingoBatch
from ..config import BatchPlan, ConfigError
from .bad_samples import KINDS
from .buffers import PixelBuffers
from .collate import collate
from .dataset import ShardDataset
from .workers import DecodePool

# Of a mixture's saved state; 1 was a mapping of the datasets alone.
STATE_VERSION = 2


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
        self.data_step = 0

    def __iter__(self) -> Iterator[list[MicroBatch]]:
        return self

    def __next__(self) -> list[MicroBatch]:
        """The micro-batches of one step of this rank."""
        return [
            MicroBatch(self.plans[number].dataset, self.weights[number], self._draw(number))
            for number in self._turn()
            for _ in range(self.plans[number].micro_steps)
        ]

    def _turn(self) -> Sequence[int]:
        """Which datasets the data step under way takes batches of."""
        return range(len(self.plans))

    def _draw(self, number: int) -> FlamingoBatch:
        """A micro-batch of dataset ``number``."""
        return FlamingoBatch.empty()

    def bad_samples(self) -> dict[str, int]:
        """How many samples of each dataset this rank passed over, and of each kind; the same keys on all ranks."""
        return {name: 0 for plan in self.plans for name in _counter_names(plan.dataset)}

    def notes(self) -> list[str]:
        """What the user may not have meant, a line each."""
        return []

    def close(self) -> None:
        """End what works beside training."""

    def state_dict(self) -> dict[str, Any]:
        """Every dataset's position, as JSON can hold it."""
        return {}

    def load_states(self, states: Sequence[dict[str, Any]], step: int) -> None:
        """Go on behind a saved run; ``states`` are of all its ranks that read, ``step`` its optimizer steps."""


class Mixture(MixtureOutline):
    """All datasets, drawn from in the recipe's order: the same kinds of batch in the same order on all ranks.

    Args:
        datasets: in the recipe's order.
        plans, weights: see :class:`MixtureOutline`.
        pool: that decodes for the datasets.
        skip: ranges [first, last] of data steps that are passed over, counted from 1.
        in_turn: data step n takes a batch of one dataset, number n - 1 modulo their number, not of all.
    """

    def __init__(
        self,
        datasets: Sequence[ShardDataset],
        plans: Sequence[BatchPlan],
        weights: Sequence[float],
        pool: DecodePool,
        skip: Sequence[Sequence[int]] = (),
        in_turn: bool = False,
    ) -> None:
        super().__init__(plans, weights)
        assert [dataset.name for dataset in datasets] == [plan.dataset for plan in plans]
        self.datasets, self.pool, self.skip = datasets, pool, [tuple(steps) for steps in skip]
        self.in_turn = in_turn
        self.buffers = PixelBuffers()

    def __next__(self) -> list[MicroBatch]:
        """The micro-batches of one step of this rank; what is skipped is read and decoded, but not put into batches.

        So the steps behind hold exactly the samples that they would have held.
        """
        self.data_step += 1
        while any(first <= self.data_step <= last for first, last in self.skip):
            for number in self._turn():
                plan = self.plans[number]
                for _ in islice(self.datasets[number], plan.micro_steps * plan.micro_batch_size):
                    pass
            self.data_step += 1
        return super().__next__()

    def _turn(self) -> Sequence[int]:
        if self.in_turn:
            return [(self.data_step - 1) % len(self.plans)]
        return super()._turn()

    def _draw(self, number: int) -> FlamingoBatch:
        dataset, size = self.datasets[number], self.plans[number].micro_batch_size
        decoder = dataset.decoder
        sequences = list(islice(dataset, size))
        return collate(sequences, decoder.rules.tokenizer.pad_token_id, decoder.transform, self.buffers)

    def bad_samples(self) -> dict[str, int]:
        """How many samples of each dataset this rank passed over so far, and of each kind; the same keys on all ranks.

        The kinds count images too that their page goes without, which the sum does not.
        """
        counts = super().bad_samples()
        for dataset in self.datasets:
            prefix = f"bad_samples/{dataset.name}"
            counts[prefix] = dataset.bad.kinds.total()
            for kind, number in (dataset.bad.kinds + dataset.bad.left_out).items():
                counts[f"{prefix}/{kind}"] = number
        return counts

    def notes(self) -> list[str]:
        """Datasets with fewer shards than ranks."""
        return [
            f"note: data.datasets.{dataset.name}: {dataset.stream.world_size} replicas share {shards} shards; some "
            "read a shard whole to use a part of it. More and smaller shards are faster"
            for dataset in self.datasets
            if (shards := len(dataset.stream.shards)) < dataset.stream.world_size
        ]

    def close(self) -> None:
        """End the worker processes."""
        self.pool.close()

    def state_dict(self) -> dict[str, Any]:
        """Every dataset's position, as JSON can hold it."""
        datasets = {dataset.name: dataset.state_dict() for dataset in self.datasets}
        return {"version": STATE_VERSION, "data_step": self.data_step, "datasets": datasets}

    def load_states(self, states: Sequence[dict[str, Any]], step: int) -> None:
        """Go on behind a saved run; ``states`` are of all its ranks that read, in their order; ``step`` is its step.

        As many as now: bit for bit the run that never stopped. Another number: no sample of an epoch is lost or read
        twice, and the sum of the counts of bad samples stays.

        Raises:
            KeyError: a dataset that the saved run did not have.
            ConfigError: a dataset has another number of shards than it had, or the state is of a later version.
        """
        version = states[0].get("version", 1)
        if version > STATE_VERSION:
            raise ConfigError("--resume", f"data positions of version {version}", f"at most {STATE_VERSION}; update")
        # Before version 2 nothing was ever skipped.
        self.data_step = states[0]["data_step"] if version > 1 else step
        positions = [state["datasets"] if version > 1 else state for state in states]
        for dataset in self.datasets:
            dataset.load_states([position[dataset.name] for position in positions])


def _counter_names(dataset: str) -> list[str]:
    return [f"bad_samples/{dataset}", *(f"bad_samples/{dataset}/{kind}" for kind in KINDS)]
