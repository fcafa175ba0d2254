"""Counts of what shards hold."""

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from flamingo_ds.data.bad_samples import BadSample
from flamingo_ds.data.decoder import Decoder
from flamingo_ds.data.packing import Packing, join
from flamingo_ds.data.pictures import Picture
from flamingo_ds.data.sequence import TokenSequence
from flamingo_ds.data.shards import Patience, RawSample, expand_shards, read_shard

# Of as many sequences a batch is thought when the share of padding is told.
BATCH = 32


@dataclass
class Inspection:
    """What was found; numbers are one entry a sequence, an image or a sample."""

    shards: int = 0
    samples: int = 0
    sequences: int = 0
    tokens: list[int] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    width: list[int] = field(default_factory=list)
    height: list[int] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    bad: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    shown: list[tuple[str, TokenSequence]] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        spreads = {
            name: _spread(getattr(self, name)) for name in ("tokens", "images", "frames", "width", "height", "bytes")
        }
        padded = sum(
            max(batch) * len(batch)
            for batch in (self.tokens[start : start + BATCH] for start in range(0, len(self.tokens), BATCH))
        )
        return {
            "shards": self.shards,
            "samples": self.samples,
            "sequences": self.sequences,
            "real_token_share": sum(self.tokens) / max(padded, 1),
            **spreads,
            "bad_samples": dict(self.bad),
            "images_left_out": dict(self.left_out),
        }


def inspect(pattern: str, decoder: Decoder, packing: Packing | None, samples: int, show: int) -> Inspection:
    """Decode samples in the order in which they are written.

    Args:
        pattern: of shards, as in a recipe.
        decoder: of the samples.
        packing: of their sequences.
        samples: how many at most; 0: all.
        show: sequences to keep for the sheet.

    Raises:
        ConfigError: shards that are not there.
    """
    found = Inspection()
    packed: tuple[str, TokenSequence] | None = None
    for sample in islice(_samples(expand_shards("SHARDS", pattern), found), samples or None):
        found.samples += 1
        outcome = decoder(sample)
        if isinstance(outcome, BadSample):
            _count_bad(found, sample.key, outcome)
            continue
        _count_files(found, sample)
        found.left_out.update(outcome.left_out)
        if packing is None:
            _count(found, (sample.key, outcome), show)
        elif packed is not None and packing.fits(packed[1], outcome):
            packed = (packed[0], join(packed[1], outcome))
        else:
            if packed is not None:
                _count(found, packed, show)
            packed = (sample.key, outcome)
    if packed is not None:
        _count(found, packed, show)
    return found


def _samples(shards: list[str], found: Inspection) -> Iterator[RawSample]:
    for shard in shards:
        found.shards += 1
        yield from read_shard(shard, Patience(retries=1), lambda bad, shard=shard: _count_bad(found, shard, bad))


def _count_bad(found: Inspection, name: str, bad: BadSample) -> None:
    found.bad[bad.kind] += 1
    found.examples.setdefault(bad.kind, f"{name}: {bad.reason}"[:80])


def _count_files(found: Inspection, sample: RawSample) -> None:
    """Sizes as they lie in the shard, before any transform."""
    found.bytes.append(sum(map(len, sample.members.values())))
    for suffix, content in sample.members.items():
        if suffix.rpartition(".")[2] in ("jpg", "jpeg", "png", "webp"):
            try:
                width, height = Picture(content).header.size
            except BadSample:
                continue
            found.width.append(width)
            found.height.append(height)


def _count(found: Inspection, sequence: tuple[str, TokenSequence], show: int) -> None:
    found.sequences += 1
    found.tokens.append(len(sequence[1].input_ids))
    found.images.append(len(sequence[1].media))
    found.frames += [len(media) for media in sequence[1].media]
    if len(found.shown) < show:
        found.shown.append(sequence)


def _spread(values: list[int]) -> dict[str, float]:
    if not values:
        return {}
    return {
        "least": min(values),
        "median": statistics.median(values),
        "mean": statistics.mean(values),
        "most": max(values),
    }
