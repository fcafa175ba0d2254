"""One dataset of the mixture: its shards to an endless stream of training sequences."""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..config import ConfigError
from .bad_samples import BadSample, BadSampleLog
from .packing import Packing, join
from .segments import StreamPosition
from .sequence import TokenSequence
from .shards import Patience, RawSample, read_shard
from .stream import SampleStream
from .workers import CHUNK, DecodePool, Outcome

# A run starts if one of so many samples is usable: else format and shards do not agree, or a rule leaves nothing.
TRIED_AT_START = 100
# So many bad samples behind each other end a packed sequence: else a dataset gone bad would be read without end.
MOST_BAD_WITHIN = 200


@dataclass(frozen=True)
class _Event:
    """A sample that came out of the pool, with the position behind it."""

    shard: str
    key: str
    position: StreamPosition
    outcome: Outcome


class ShardDataset:
    """Shards -> raw samples -> decoded sequences -> packed sequences; its state is the position behind the last given.

    Args:
        name: as in the recipe.
        stream: of raw samples.
        pool: decodes them; the dataset's decoder is registered there under its name.
        bad: counts what cannot be used.
        packing: puts several sequences into one; None: not.
        ahead: samples to have decoded before they are asked for, if the pool has workers.
    """

    def __init__(
        self,
        name: str,
        stream: SampleStream,
        pool: DecodePool,
        bad: BadSampleLog,
        packing: Packing | None = None,
        ahead: int = 0,
    ) -> None:
        self.name, self.stream, self.pool, self.bad, self.packing = name, stream, pool, bad, packing
        # Without workers nothing is read ahead, for nobody would decode it meanwhile.
        self.chunk, self.chunks = (CHUNK, -(-ahead // CHUNK) + 2 * pool.workers) if pool.workers else (1, 1)
        self.decoder = pool.decoders[name]
        self.position = StreamPosition()
        self.sequences = self._packed() if packing else self._single()

    def __iter__(self) -> Iterator[TokenSequence]:
        return self

    def __next__(self) -> TokenSequence:
        """The next sequence; unusable samples before it are counted and passed over.

        Raises:
            ConfigError: too many samples are bad.
        """
        return next(self.sequences)

    def _decoded(self) -> Iterator[_Event]:
        """Samples in the stream's order, decoded."""
        samples = self.stream.read(self.position)
        waiting: deque[tuple[list[tuple[RawSample, StreamPosition]], Any]] = deque()
        while True:
            while len(waiting) < self.chunks:
                chunk = list(itertools.islice(samples, self.chunk))
                waiting.append((chunk, self.pool.submit(self.name, [sample for sample, _ in chunk])))
            chunk, pending = waiting.popleft()
            for (sample, position), outcome in zip(chunk, pending.result(), strict=True):
                yield _Event(sample.shard, sample.key, position, outcome)

    def _single(self) -> Iterator[TokenSequence]:
        for event in self._decoded():
            self._pass(event)
            if isinstance(event.outcome, TokenSequence):
                yield event.outcome

    def _packed(self) -> Iterator[TokenSequence]:
        """Sequences filled in the stream's order until the next does not fit, which then begins another one."""
        assert self.packing is not None
        packed: TokenSequence | None = None
        within: list[_Event] = []
        for event in self._decoded():
            other = event.outcome
            full = len(within) > MOST_BAD_WITHIN and isinstance(other, BadSample)
            if packed is not None and (
                full or (isinstance(other, TokenSequence) and not self.packing.fits(packed, other))
            ):
                for passed in within:
                    self._pass(passed)
                yield packed
                packed, within = None, []
            if packed is None and isinstance(other, BadSample):
                self._pass(event)
                continue
            within.append(event)
            if isinstance(other, TokenSequence):
                packed = other if packed is None else join(packed, other)

    def _pass(self, event: _Event) -> None:
        """What lies up to here is given or passed over: a resumed run goes on behind it."""
        self.position = event.position
        self.bad.seen += bool(event.key)  # the rest of a broken shard is no sample
        if isinstance(event.outcome, BadSample):
            self.bad.add(event.shard, event.key, event.outcome)
        else:
            self.bad.leave_out(event.outcome.left_out)

    def check_start(self, patience: Patience) -> None:
        """Try the beginning of the first shard: better said now than after a night's training.

        Raises:
            ConfigError: the shard cannot be read, or not one sample of many can be used.
        """
        key, shard = f"data.datasets.{self.name}.shards", self.stream.shards[0]
        errors: list[BadSample] = []
        first: tuple[RawSample, BadSample] | None = None
        for sample in itertools.islice(read_shard(shard, patience, errors.append), TRIED_AT_START):
            outcome = self.decoder(sample)
            if isinstance(outcome, TokenSequence):
                return
            first = first or (sample, outcome)
        if first is not None:
            expected = f"a usable sample among the first {TRIED_AT_START}; the first: {first[1]}"
            raise ConfigError(key, f"{shard}:{first[0].key}", expected)
        if errors:
            raise ConfigError(key, shard, f"a readable tar file; {errors[0].reason}")
        raise ConfigError(key, shard, "a tar file with samples; it has none")

    def state_dict(self) -> dict[str, Any]:
        """Position and counts, as JSON can hold them."""
        return {"shards": len(self.stream.shards), "stream": self.position.state_dict(), "bad": self.bad.state_dict()}

    def load_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on behind the last sequences that the ranks of a saved run gave out; ``states`` are of all its ranks.

        Raises:
            ConfigError: the saved run had another number of shards.
        """
        shards = len(self.stream.shards)
        saved = states[0].get("shards", shards)
        if saved != shards:
            raise ConfigError(
                f"data.datasets.{self.name}.shards",
                f"{shards} tar files",
                f"{saved}, as the saved positions count them",
            )
        self.position = self.stream.go_on_from([state["stream"] for state in states])
        # Counts go on too; of another number of ranks each takes over whole logs, so that the sum stays what it was.
        self.bad.load_states([state["bad"] for state in states[self.stream.rank :: self.stream.world_size]])
        self.sequences = self._packed() if self.packing else self._single()
