"""Pictures that are there twice under different names: a support sample that shows a query's picture is no example."""

import contextlib
import hashlib
import stat
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ..task import Sample


def mark_same_bytes(support: Sequence[Sample], queries: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Both, with a media key for the bytes of each file that both have.

    Read are those files alone of which the other side has one of the same size. Folders of frames are not looked into.
    """
    support_sizes, query_sizes = _sizes(support), _sizes(queries)
    sizes = set(support_sizes.values()) & set(query_sizes.values())
    of_support, of_queries = _digests(support_sizes, sizes), _digests(query_sizes, sizes)
    shared = set(of_support.values()) & set(of_queries.values())
    return _marked(support, of_support, shared), _marked(queries, of_queries, shared)


def _sizes(samples: Iterable[Sample]) -> dict[Path, int]:
    sizes = {}
    for path in {path for sample in samples for path in sample.media}:
        with contextlib.suppress(OSError):
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                sizes[path] = status.st_size
    return sizes


def _digests(files: dict[Path, int], sizes: set[int]) -> dict[Path, str]:
    digests = {}
    for path, size in files.items():
        # What cannot be read is no matter here: whoever decodes it says so.
        with contextlib.suppress(OSError):
            if size in sizes:
                with path.open("rb") as file:
                    digests[path] = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
    return digests


def _marked(samples: Sequence[Sample], digests: dict[Path, str], shared: set[str]) -> list[Sample]:
    marked = []
    for sample in samples:
        keys = tuple(f"bytes {digests[path]}" for path in sample.media if digests.get(path) in shared)
        marked.append(replace(sample, media_keys=sample.media_keys + keys) if keys else sample)
    return marked
