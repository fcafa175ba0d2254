"""Writing so that a file or folder is complete or absent."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL_SUFFIX = ".partial"


@contextmanager
def complete_or_absent(folder: Path) -> Iterator[Path]:
    """A folder to fill, beside its place; flushed and moved there at the end, in one rename.

    An existing folder at the place is replaced. After an error the place is as it was and the partial folder is gone.
    """
    partial = folder.with_name(folder.name + PARTIAL_SUFFIX)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        publish(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def publish(partial: Path, folder: Path) -> None:
    """Flush everything under ``partial`` to the disk and make it ``folder``."""
    os.umask(umask := os.umask(0o022))
    for parent, _, names in os.walk(partial):
        for name in names:
            # safetensors files are made for their owner alone; a lab shares its checkpoints.
            os.chmod(os.path.join(parent, name), 0o666 & ~umask)
            _flush(os.path.join(parent, name))
        _flush(parent)
    if folder.exists():
        # A folder cannot be replaced in one step: move the old one out of the way first.
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        try:
            partial.rename(folder)
        except BaseException:
            old.rename(folder)
            raise
        shutil.rmtree(old)
    else:
        partial.rename(folder)
    _flush(folder.parent)


def point_to(link: Path, target: str) -> None:
    """Make ``link`` a symbolic link to its sibling ``target``, in one step."""
    temporary = link.with_name(link.name + PARTIAL_SUFFIX)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    _flush(link.parent)


def write_json(path: Path, content: Any) -> None:
    """A JSON file for machines and people."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _flush(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
