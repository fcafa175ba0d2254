"""What a rank reads of an epoch: a list of segments, each a part of one shard. Nothing is opened here."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Segment(NamedTuple):
    """Every ``stride``-th sample of a shard from ``first`` on, without the ``skip`` that come first when shuffled."""

    epoch: int
    """Seeds the shuffling."""
    shard: int
    """Its number among the dataset's shards: shorter than a path, and a moved dataset keeps its positions."""
    first: int
    stride: int
    skip: int = 0


@dataclass(frozen=True)
class StreamPosition:
    """Where a stream stands: ``samples`` of segment number ``shard`` are consumed, and all segments before it.

    The segments are the rank's ordinary share of ``epoch``; or ``dealt``, what another number of ranks left over of the
    epochs up to ``epoch``. Behind them comes the ordinary share of the next epoch.
    """

    epoch: int = 0
    shard: int = 0
    samples: int = 0
    dealt: list[Segment] | None = None

    def state_dict(self) -> dict[str, Any]:
        """A copy, as JSON can hold it."""
        dealt = None if self.dealt is None else [list(segment) for segment in self.dealt]
        return {"epoch": self.epoch, "shard": self.shard, "samples": self.samples, "dealt": dealt}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> "StreamPosition":
        """The inverse of :meth:`state_dict`."""
        dealt = state.get("dealt")
        segments = None if dealt is None else [Segment(*numbers) for numbers in dealt]
        return cls(state["epoch"], state["shard"], state["samples"], segments)


@dataclass(frozen=True)
class Order:
    """In which order a dataset is read: the same on every rank, so no two ranks read the same sample."""

    shards: int
    """How many there are."""
    seed: int

    def share(self, epoch: int, rank: int, world_size: int) -> list[Segment]:
        """Shuffle the shards of an epoch and deal them out; ranks share one only where ranks are more than shards."""
        order = list(range(self.shards))
        random.Random(f"shards {self.seed} {epoch}").shuffle(order)
        if len(order) >= world_size:
            return [Segment(epoch, shard, first=0, stride=1) for shard in order[rank::world_size]]
        mine = rank % len(order)
        stride = len(range(mine, world_size, len(order)))
        return [Segment(epoch, order[mine], first=rank // len(order), stride=stride)]

    def segments(self, position: StreamPosition, rank: int, world_size: int) -> list[Segment]:
        """What a rank walks through at a position, from its beginning."""
        return self.share(position.epoch, rank, world_size) if position.dealt is None else position.dealt

    def left(self, positions: Sequence[StreamPosition]) -> list[Segment]:
        """What a run has left of every epoch that one of its ranks has begun; ``positions`` are of all its ranks.

        A rank that reads fewer samples an epoch is epochs ahead of the others: theirs up to its own are left too.
        """
        last = max(position.epoch for position in positions)
        left = []
        for rank, position in enumerate(positions):
            rest = self.segments(position, rank, len(positions))[position.shard :]
            if rest:
                rest[0] = rest[0]._replace(skip=rest[0].skip + position.samples)
            left += rest
            for epoch in range(position.epoch + 1, last + 1):
                left += self.share(epoch, rank, len(positions))
        return left

    def deal_again(self, positions: Sequence[StreamPosition], rank: int, world_size: int) -> StreamPosition:
        """Where ``rank`` of a run with another number of ranks begins, so that no sample is lost or read twice.

        Segments are dealt in turn, earlier epochs first, and of an epoch the begun ones last: who got one whole shard
        less gets a part of one first. How many samples a shard has is not known before it is read.
        """
        left = sorted(self.left(positions), key=lambda segment: (segment.epoch, segment.skip > 0))
        last = max(position.epoch for position in positions)
        return StreamPosition(epoch=last, dealt=left[rank::world_size])
