"""An endless, shuffled, resumable stream of one rank's raw samples.

Its position is a few numbers, because order depends only on (seed, epoch, shards, rank): a resumed stream skips inside
one shard and gives exactly the samples that would have come. Another number of ranks goes on with what was left.
"""

import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .segments import Order, Segment, StreamPosition
from .shards import RawSample, read_shard


class SampleStream:
    """Raw samples of the shards, epoch after epoch.

    Args:
        shards: tar files, all of them.
        rank, world_size: whose share to read.
        seed: of the order.
        buffer: samples shuffled among themselves.
        on_error: told of a broken tar and its path.
    """

    def __init__(
        self,
        shards: list[str],
        rank: int,
        world_size: int,
        seed: int,
        buffer: int,
        on_error: Callable[[str, Exception], None],
    ) -> None:
        self.shards, self.rank, self.world_size = shards, rank, world_size
        self.order, self.buffer, self.on_error = Order(len(shards), seed), buffer, on_error
        self.position = StreamPosition()

    def __iter__(self) -> Iterator[RawSample]:
        """From the current position on, without end.

        Raises:
            RuntimeError: a whole epoch without a single sample.
        """
        while True:
            at, segments = self.position, self.segments()
            found = at.dealt is not None or at.shard > 0 or at.samples > 0
            while at.shard < len(segments):
                segment = segments[at.shard]
                for sample in itertools.islice(self._shuffled(segment), segment.skip + at.samples, None):
                    at.samples += 1
                    found = True
                    yield sample
                at.shard, at.samples = at.shard + 1, 0
            if not found:
                path = self.shards[segments[0].shard]
                raise RuntimeError(f"no sample in any of {len(segments)} shards, such as {path}")
            self.position = StreamPosition(epoch=at.epoch + 1)

    def segments(self) -> list[Segment]:
        """What the stream walks through now; ``position.shard`` is the number of the one that it is in."""
        return self.order.segments(self.position, self.rank, self.world_size)

    def _shuffled(self, segment: Segment) -> Iterator[RawSample]:
        """The samples of a segment, ``skip`` included, shuffled in blocks: a block needs no state beyond its number.

        Errors are told behind the last sample, so that a run that is resumed before it counts them once.
        """
        errors: list[Exception] = []

        def on_error(error: Exception) -> bool:
            errors.append(error)
            return True

        path = self.shards[segment.shard]
        name = os.path.basename(path)  # not the folder: a moved dataset keeps its order
        samples = itertools.islice(read_shard(path, on_error), segment.first, None, segment.stride)
        for number in itertools.count():
            block = list(itertools.islice(samples, self.buffer))
            if not block:
                break
            random.Random(f"samples {self.order.seed} {segment.epoch} {name} {number}").shuffle(block)
            yield from block
        for error in errors:
            self.on_error(path, error)

    def state_dict(self) -> dict[str, Any]:
        """The position, as JSON can hold it."""
        return self.position.state_dict()

    def load_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on from the positions of all ranks of a saved run, in their order; iterate anew afterwards.

        As many ranks as now: exactly behind this rank's own position. Another number: what they had left is dealt out.
        """
        positions = [StreamPosition.of_state(state) for state in states]
        if len(positions) == self.world_size:
            self.position = positions[self.rank]
        else:
            self.position = self.order.deal_again(positions, self.rank, self.world_size)
