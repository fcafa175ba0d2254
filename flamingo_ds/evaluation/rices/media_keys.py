"""Pictures told apart by their content: the same file under two names has one key."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from ..task import Sample

CHUNK = 1 << 20


def media_key(path: Path) -> str:
    """SHA-256 of a file's bytes; of a folder of frames, of the bytes of its files in the order of their names.

    A picture that was scaled or compressed anew has another key.

    Raises:
        OSError: unreadable.
    """
    digest = hashlib.sha256()
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    for file in files:
        with file.open("rb") as stream:
            while content := stream.read(CHUNK):
                digest.update(content)
    return digest.hexdigest()


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
