"""Which pictures and videos are there, found by listing folders: a file system under load answers that soonest."""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from ..task import VIDEO_SUFFIXES


class Listing:
    """The names in folders, each of which is listed once."""

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}

    def holds(self, path: Path) -> bool:
        """Whether a file or folder is there."""
        folder, name = os.path.split(path)
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(folder))
            except OSError:
                self._names[folder] = frozenset()
        return name in self._names[folder]


class Videos:
    """Videos by the name without its ending: files, or folders of frames.

    Args:
        folders: in which they lie; those that are there.
    """

    def __init__(self, *folders: Path) -> None:
        self.folders = [folder for folder in folders if folder.is_dir()]

    def path(self, name: str) -> Path:
        """Where a video is; where none is, where its file would be, to be counted as missing."""
        return self._paths.get(name, self.folders[0] / f"{name}.{VIDEO_SUFFIXES[0]}")

    @cached_property
    def _paths(self) -> Mapping[str, Path]:
        found: dict[str, Path] = {}
        for folder in self.folders:
            for name in sorted(os.listdir(folder)):
                path = folder / name
                known = path.suffix[1:].lower() in VIDEO_SUFFIXES
                found.setdefault(path.stem if known else name, path)
        return found
