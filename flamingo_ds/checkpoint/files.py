"""Writing so that a file or folder is complete or absent, whenever the process is killed.

A folder NAME has three companions beside it, told apart by their suffix:

    NAME.partial        being written; never taken for NAME
    NAME.old            whole: what NAME was before, while it is being replaced
    NAME.x.removing     being deleted, from a whole or a partial folder; never taken for NAME
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

PARTIAL_SUFFIX = ".partial"
OLD_SUFFIX = ".old"
REMOVING_SUFFIX = ".removing"


def beside(path: Path, suffix: str) -> Path:
    """``path`` with a suffix behind its whole name."""
    return path.with_name(path.name + suffix)


@contextmanager
def complete_or_absent(folder: Path) -> Iterator[Path]:
    """A folder to fill, beside its place; flushed and moved there at the end.

    An existing folder at the place is replaced. After an error the place is as it was and the partial folder is gone.
    """
    partial = beside(folder, PARTIAL_SUFFIX)
    undo_half_replacement(folder)
    discard(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        mode = readable_mode()
        for parent, _, names in os.walk(partial):
            for name in names:
                finish_file(Path(parent, name), mode)
        put_in_place(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    discard(beside(folder, OLD_SUFFIX))


def put_in_place(partial: Path, folder: Path) -> None:
    """Make ``partial``, whose files are flushed, ``folder``; what was there before is then ``folder.old``.

    A folder cannot be replaced in one step. Between the two renames only the old one is whole and named so:
    :func:`undo_half_replacement` puts it back after a kill.
    """
    for parent, _, _ in os.walk(partial):
        flush(parent)
    undo_half_replacement(folder)
    old = beside(folder, OLD_SUFFIX)
    if folder.exists():
        folder.rename(old)
    try:
        partial.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    flush(folder.parent)


def undo_half_replacement(folder: Path) -> None:
    """Where a replacement of ``folder`` was killed half way, go back; where behind its end, sweep the old folder."""
    old = beside(folder, OLD_SUFFIX)
    if old.exists():
        if folder.exists():
            discard(old)
        else:
            old.rename(folder)


def discard(folder: Path) -> None:
    """Delete a folder, if there is one, in such a way that a half-deleted one never looks whole."""
    if (removing := set_aside(folder)) is not None:
        shutil.rmtree(removing, ignore_errors=True)


def set_aside(folder: Path) -> Path | None:
    """The first, quick half of :func:`discard`: the folder's new name, of something to be deleted."""
    if not folder.exists():
        return None
    if folder.name.endswith(REMOVING_SUFFIX):
        return folder
    # A name of its own: an earlier removal of the same folder may not have come to its end.
    removing = beside(folder, f".{uuid4().hex[:8]}{REMOVING_SUFFIX}")
    folder.rename(removing)
    flush(folder.parent)
    return removing


def point_to(link: Path, target: str) -> None:
    """Make ``link`` a symbolic link to its sibling ``target``, in one step."""
    temporary = beside(link, PARTIAL_SUFFIX)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    flush(link.parent)


def replace_text(path: Path, text: str) -> None:
    """Write a file anew; a reader, and a run after a kill, finds it before or after the change."""
    temporary = beside(path, PARTIAL_SUFFIX)
    temporary.write_text(text, encoding="utf-8")
    flush(temporary)
    temporary.replace(path)


def write_json(path: Path, content: Any) -> None:
    """A JSON file for machines and people."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def readable_mode() -> int:
    """What the umask lets a new file be. Not for a thread: the umask is the process's and is set for an instant."""
    os.umask(umask := os.umask(0o022))
    return 0o666 & ~umask


def finish_file(path: Path, mode: int) -> None:
    """Flush a written file, as readable as others: safetensors makes its own for their owner alone; a lab shares."""
    os.chmod(path, mode)
    flush(path)


def flush(path: str | Path) -> None:
    """Have a file's content, or a folder's list of names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
