"""One dataset of the mixture: its shards to an endless stream of training sequences."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..config import ConfigError, DatasetConfig
from ..config.schema import SampleFormat
from .bad_samples import BadSample, BadSampleLog
from .documents import Document, read_image_text, read_interleaved
from .sequence import SequenceRules, TokenSequence
from .shards import RawSample, expand_shards, read_shard
from .stream import SampleStream

READERS: dict[SampleFormat, Callable[[RawSample], Document]] = {
    SampleFormat.image_text: read_image_text,
    SampleFormat.interleaved: read_interleaved,
}


class ShardDataset:
    """Shards -> raw samples -> documents -> sequences, with the position of the first stage as its state.

    Args:
        name: as in the recipe.
        config: of this dataset.
        rules: documents to sequences.
        rank, world_size: whose share.
        seed: of the order.
        max_bad_share: see :class:`BadSampleLog`.
        bad_samples: file for bad samples, or None.

    Raises:
        ConfigError: missing shards, or a first sample that cannot be used: then format and shards do not agree, and
            that is better said now than after a night's training.
    """

    def __init__(
        self,
        name: str,
        config: DatasetConfig,
        rules: SequenceRules,
        rank: int,
        world_size: int,
        seed: int,
        max_bad_share: float,
        bad_samples: Path | None,
    ) -> None:
        self.name, self.rules, self.read = name, rules, READERS[config.format]
        self.bad = BadSampleLog(name, max_bad_share, bad_samples)
        shards = expand_shards(f"data.datasets.{name}.shards", config.shards)
        self._check_first_sample(shards[0])
        self.stream = SampleStream(
            shards, rank, world_size, seed, config.shuffle_buffer, on_error=self._on_broken_shard
        )
        self.samples = iter(self.stream)

    def __iter__(self) -> Iterator[TokenSequence]:
        return self

    def __next__(self) -> TokenSequence:
        """The next usable sequence; unusable samples before it are counted and passed over."""
        while True:
            sample = next(self.samples)
            self.bad.seen += 1
            try:
                return self.rules(self.read(sample))
            except BadSample as bad:
                self.bad.add(sample["__url__"], sample["__key__"], bad)

    def _on_broken_shard(self, path: str, error: Exception) -> None:
        self.bad.add(path, "", BadSample("broken_shard", f"{type(error).__name__}: {error}"))

    def _check_first_sample(self, shard: str) -> None:
        key = f"data.datasets.{self.name}.shards"

        def on_error(error: Exception) -> bool:
            raise ConfigError(key, shard, f"a readable tar file; {error}") from error

        sample = next(read_shard(shard, on_error), None)
        if sample is None:
            raise ConfigError(key, shard, "a tar file with samples; it has none")
        try:
            self.rules(self.read(sample))
        except BadSample as bad:
            raise ConfigError(key, f"{shard}:{sample['__key__']}", f"a usable first sample; {bad}") from bad

    def state_dict(self) -> dict[str, Any]:
        """Position and counts, as JSON can hold them."""
        return {"shards": len(self.stream.shards), "stream": self.stream.state_dict(), "bad": self.bad.state_dict()}

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
        self.stream.load_states([state["stream"] for state in states])
        # Counts go on too; of another number of ranks each takes over whole logs, so that the sum stays what it was.
        self.bad.load_states([state["bad"] for state in states[self.stream.rank :: self.stream.world_size]])
        self.samples = iter(self.stream)
