"""An endless, shuffled, resumable stream of one rank's raw samples.

Its position is a few numbers, because order depends only on (seed, epoch, shards, rank): a resumed stream skips inside
one shard and gives exactly the samples that would have come. Another number of ranks goes on with what was left.
"""

import itertools
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from .bad_samples import BadSample
from .segments import Order, Segment, StreamPosition
from .shards import Patience, RawSample, read_shard


class SampleStream:
    """Raw samples of the shards, epoch after epoch, each with the position behind it.

    A shard that cannot be read to its end is a sample too, a bad one without a key, behind the last that it gave: so a
    run that is resumed before it counts it once.

    Args:
        shards: tar files, all of them.
        rank, world_size: whose share to read.
        seed: of the order.
        buffer: samples shuffled among themselves.
        patience: with shards that cannot be read.
    """

    def __init__(
        self, shards: list[str], rank: int, world_size: int, seed: int, buffer: int, patience: Patience | None = None
    ) -> None:
        self.shards, self.rank, self.world_size = shards, rank, world_size
        self.order, self.buffer, self.patience = Order(len(shards), seed), buffer, patience or Patience()

    def read(self, position: StreamPosition) -> Iterator[tuple[RawSample, StreamPosition]]:
        """From a position on, without end.

        Raises:
            RuntimeError: a whole epoch without a single sample.
        """
        while True:
            segments = self.order.segments(position, self.rank, self.world_size)
            found = position.dealt is not None or position.shard > 0 or position.samples > 0
            for sample, behind in self.read_epoch(position):
                found |= bool(sample.key)
                yield sample, behind
            if not found:
                path = self.shards[segments[0].shard]
                raise RuntimeError(f"no sample in any of {len(segments)} shards, such as {path}")
            position = StreamPosition(epoch=position.epoch + 1)

    def read_epoch(self, position: StreamPosition) -> Iterator[tuple[RawSample, StreamPosition]]:
        """From a position to the end of its epoch."""
        segments = self.order.segments(position, self.rank, self.world_size)
        while position.shard < len(segments):
            segment = segments[position.shard]
            errors: list[BadSample] = []
            for sample in itertools.islice(self._shuffled(segment, errors), segment.skip + position.samples, None):
                position = replace(position, samples=position.samples + 1)
                yield sample, position
            position = replace(position, shard=position.shard + 1, samples=0)
            for error in errors:
                yield RawSample(self.shards[segment.shard], "", bad=error), position

    def _shuffled(self, segment: Segment, errors: list[BadSample]) -> Iterator[RawSample]:
        """The samples of a segment, ``skip`` included, shuffled in blocks: a block needs no state beyond its number."""
        path = self.shards[segment.shard]
        name = os.path.basename(path)  # not the folder: a moved dataset keeps its order
        seed = f"{self.order.seed} {segment.epoch} {name}"
        samples = itertools.islice(read_shard(path, self.patience, errors.append), segment.first, None, segment.stride)
        for number in itertools.count():
            block = list(itertools.islice(samples, self.buffer))
            if not block:
                break
            for sample in block:
                sample.seed = f"{seed} {sample.key}"
            random.Random(f"samples {seed} {number}").shuffle(block)
            yield from block

    def go_on_from(self, states: Sequence[dict[str, Any]]) -> StreamPosition:
        """Where this rank goes on from the positions of all ranks of a saved run, in their order.

        As many ranks as now: exactly behind this rank's own position. Another number: what they had left is dealt out.
        """
        positions = [StreamPosition.of_state(state) for state in states]
        if len(positions) == self.world_size:
            return positions[self.rank]
        return self.order.deal_again(positions, self.rank, self.world_size)
