"""Which data an index is of."""

import hashlib
import os
from collections.abc import Iterable

from ..task import Sample


def identity(samples: Iterable[Sample]) -> str:
    """A hash of keys, media paths and their sizes and times, without reading a file."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{sample.key!r}\n".encode())
        for path in sample.media:
            try:
                status = os.stat(path)
                digest.update(f" {str(path)!r} {status.st_size} {status.st_mtime_ns}\n".encode())
            except OSError:
                digest.update(f" {str(path)!r} missing\n".encode())
    return digest.hexdigest()
