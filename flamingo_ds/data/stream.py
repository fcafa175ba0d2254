"""An endless, shuffled, resumable stream of one rank's raw samples.

Its position is three numbers, because order depends only on (seed, epoch, shards, rank): a resumed stream skips inside
one shard and gives exactly the samples that would have come.
"""

import itertools
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from .shards import RawSample, read_shard, share_of_epoch


@dataclass
class StreamPosition:
    """Where a stream stands: ``samples`` of shard number ``shard`` of this epoch are consumed."""

    epoch: int = 0
    shard: int = 0
    samples: int = 0


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
        self.seed, self.buffer, self.on_error = seed, buffer, on_error
        self.position = StreamPosition()

    def __iter__(self) -> Iterator[RawSample]:
        """From the current position on, without end.

        Raises:
            RuntimeError: a whole epoch without a single sample.
        """
        while True:
            at = self.position
            share = share_of_epoch(self.shards, self.seed, at.epoch, self.rank, self.world_size)
            found = at.shard > 0 or at.samples > 0
            while at.shard < len(share.shards):
                path = share.shards[at.shard]
                samples = itertools.islice(self._shuffled(path, share.first, share.stride), at.samples, None)
                for sample in samples:
                    at.samples += 1
                    found = True
                    yield sample
                at.shard, at.samples = at.shard + 1, 0
            if not found:
                raise RuntimeError(f"no sample in any of {len(share.shards)} shards, such as {share.shards[0]}")
            self.position = StreamPosition(epoch=at.epoch + 1)

    def _shuffled(self, path: str, first: int, stride: int) -> Iterator[RawSample]:
        """This rank's samples of one shard, shuffled in blocks: a block needs no state beyond its number.

        Errors are told behind the last sample, so that a run that is resumed before it counts them once.
        """
        errors: list[Exception] = []

        def on_error(error: Exception) -> bool:
            errors.append(error)
            return True

        name = os.path.basename(path)  # not the folder: a moved dataset keeps its order
        samples = itertools.islice(read_shard(path, on_error), first, None, stride)
        for number in itertools.count():
            block = list(itertools.islice(samples, self.buffer))
            if not block:
                break
            random.Random(f"samples {self.seed} {self.position.epoch} {name} {number}").shuffle(block)
            yield from block
        for error in errors:
            self.on_error(path, error)

    def state_dict(self) -> dict[str, Any]:
        """The position."""
        return asdict(self.position)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a position; iterate anew afterwards."""
        self.position = StreamPosition(**state)
