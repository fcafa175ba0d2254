"""Features of a list of samples, on disk, computed by all ranks.

CACHE/ENCODER-DATA/            both hashed: another encoder or other data is another index
  index.json                   what it is of
  block-00000.npy              features of the first 256 samples (N, D), of length 1; NaN where a sample is unreadable
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy
import torch.distributed as dist
from PIL import Image

from ...checkpoint.files import beside, flush, replace_text
from ...config import ConfigError
from ...data.bad_samples import BadSample
from ...parallel.launch import Launch
from ..task import Sample
from .encoder import Encoder
from .identity import identity

BLOCK = 256
# Samples that are decoded, and then encoded, together: the same on any number of ranks, so that features are equal.
GROUP = 32
DECODERS = 4
Load = Callable[[Path], Sequence[Image.Image]]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Index:
    """A complete index: blocks (N, D) float32, each read when it is its turn.

    Attributes:
        folder: it lies in.
        count: samples.
    """

    folder: Path
    count: int

    def __iter__(self) -> Iterator[numpy.ndarray]:
        return (numpy.load(path) for path in self.paths())

    def paths(self) -> list[Path]:
        """Of its blocks."""
        return [self.folder / f"block-{number:05d}.npy" for number in range(-(-self.count // BLOCK))]

    def features(self) -> numpy.ndarray:
        """All in memory: (N, D)."""
        return numpy.concatenate(list(self))

    def unreadable(self) -> list[int]:
        """Places of samples whose media could not be read; they are nobody's neighbours."""
        return numpy.flatnonzero(numpy.concatenate([numpy.isnan(block[:, 0]) for block in self])).tolist()


def build_index(encoder: Encoder, samples: Sequence[Sample], cache: Path, launch: Launch, load: Load) -> Index:
    """Compute what is not there yet, a block at a time, and wait for the other ranks.

    A sample's feature is the mean of its pictures' (of all frames of a video), of length 1. An interrupted build goes
    on behind its last whole block, also with another number of ranks.

    Args:
        encoder: of :class:`Encoder`.
        samples: each with at least one medium.
        cache: folder for all indices, that all ranks see.
        launch: this rank's place; the process group stands where there are several.
        load: the pictures of a medium; raises ``BadSample`` if it cannot be read.

    Raises:
        ConfigError: no samples, one without media, a folder that cannot be written to, or features that are not finite.
    """
    if not samples:
        raise ConfigError("--select", "rices", "a support set and queries; one of them is empty")
    if bare := next((sample.key for sample in samples if not sample.media), None):
        raise ConfigError("--select", "rices", f"samples with a picture; {bare!r} has none")
    folder = cache / f"{hashlib.sha256(encoder.key.encode()).hexdigest()[:12]}-{identity(samples)[:12]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if launch.is_main:
            content = {"encoder": encoder.key, "samples": len(samples), "block": BLOCK}
            replace_text(folder / "index.json", json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise ConfigError("index folder", str(folder), f"a folder that can be written to: {error.strerror}") from error
    index = Index(folder, len(samples))
    mine = list(enumerate(index.paths()))[launch.rank :: launch.world_size]
    with ThreadPoolExecutor(DECODERS) as pool:
        for number, path in mine:
            if not path.exists():
                _write_block(encoder, samples[number * BLOCK : (number + 1) * BLOCK], path, load, pool)
    if launch.world_size > 1:
        dist.barrier()
    return index


def _write_block(encoder: Encoder, samples: Sequence[Sample], path: Path, load: Load, pool: ThreadPoolExecutor) -> None:
    """Whole or not at all."""
    rows = [row for group in _decoded(samples, load, pool) for row in _encoded(encoder, group)]
    found = next((row for row in rows if row is not None), None)
    width = len(found) if found is not None else encoder.features([Image.new("RGB", (64, 64))]).shape[1]
    features = numpy.stack([numpy.full(width, numpy.nan, numpy.float32) if row is None else row for row in rows])
    with beside(path, ".partial").open("wb") as stream:
        numpy.save(stream, features)
    flush(beside(path, ".partial"))
    beside(path, ".partial").replace(path)


def _decoded(samples: Sequence[Sample], load: Load, pool: ThreadPoolExecutor) -> Iterator[list[list[Image.Image]]]:
    """Pictures of each sample, in groups, none of an unreadable one; the next group is decoded while one is encoded."""

    def read(sample: Sample) -> list[Image.Image]:
        try:
            return [picture for path in sample.media for picture in load(path)]
        except (BadSample, OSError):
            return []

    waiting = None
    for group in _groups(samples):
        coming = [pool.submit(read, sample) for sample in group]
        if waiting is not None:
            yield [future.result() for future in waiting]
        waiting = coming
    if waiting is not None:
        yield [future.result() for future in waiting]


def _encoded(encoder: Encoder, group: Sequence[Sequence[Image.Image]]) -> list[numpy.ndarray | None]:
    """Of each sample the mean feature (D,), of length 1; None without pictures."""
    pictures = [picture for some in group for picture in some]
    if not pictures:
        return [None] * len(group)
    parts = [numpy.asarray(encoder.features(some), dtype=numpy.float32) for some in _groups(pictures)]
    features = numpy.concatenate(parts)
    if not numpy.isfinite(features).all():
        raise ConfigError("encoder", encoder.key, "finite features")
    ends = numpy.cumsum([len(some) for some in group])
    means = [features[end - len(some) : end].mean(0) if some else None for some, end in zip(group, ends, strict=True)]
    return [None if mean is None else mean / max(float(numpy.linalg.norm(mean)), 1e-12) for mean in means]


def _groups(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[start : start + GROUP] for start in range(0, len(items), GROUP))
