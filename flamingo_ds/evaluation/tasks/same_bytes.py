"""Pictures that are there twice under different names: a support sample that shows a query's picture is no example."""

import contextlib
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ..task import Sample, is_video


def mark_same_bytes(support: Sequence[Sample], queries: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Both, with a media key for the bytes of each file that both have.

    Read are those files alone of which the other side has one of the same size; so are folders of frames, taken whole.
    """
    support_sizes, query_sizes = _sizes(support), _sizes(queries)
    sizes = set(support_sizes.values()) & set(query_sizes.values())
    of_support, of_queries = _digests(support_sizes, sizes), _digests(query_sizes, sizes)
    shared = set(of_support.values()) & set(of_queries.values())
    return _marked(support, of_support, shared), _marked(queries, of_queries, shared)


def _sizes(samples: Iterable[Sample]) -> dict[Path, int]:
    """Bytes of each medium; what cannot be read is no matter here: whoever decodes it says so."""
    sizes = {}
    for path in {path for sample in samples for path in sample.media}:
        with contextlib.suppress(OSError):
            sizes[path] = sum(file.stat().st_size for file in _files(path))
    return sizes


def _digests(media: dict[Path, int], sizes: set[int]) -> dict[Path, str]:
    digests = {}
    for path, size in media.items():
        with contextlib.suppress(OSError):
            if size in sizes:
                digest = hashlib.blake2b(digest_size=16)
                for file in _files(path):
                    digest.update(file.read_bytes())
                digests[path] = digest.hexdigest()
    return digests


def _files(path: Path) -> list[Path]:
    """The file itself, or the frames of a folder in the order of their names."""
    return sorted(path.iterdir()) if is_video(path) and path.is_dir() else [path]


def _marked(samples: Sequence[Sample], digests: dict[Path, str], shared: set[str]) -> list[Sample]:
    marked = []
    for sample in samples:
        keys = tuple(f"bytes {digests[path]}" for path in sample.media if digests.get(path) in shared)
        marked.append(replace(sample, media_keys=sample.media_keys + keys) if keys else sample)
    return marked
