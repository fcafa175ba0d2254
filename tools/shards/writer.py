"""Shards of a fixed number of samples, each there when it is whole, and their index."""

import hashlib
import json
from pathlib import Path
from types import TracebackType
from typing import Any

import webdataset

from flamingo_ds.config import ConfigError

INDEX = "index.json"


class ShardWriter:
    """Writes NAME-00000.tar, NAME-00001.tar, ... and index.json.

    Args:
        folder: is made.
        name: what shards are called.
        size: samples of each but the last.

    Raises:
        ConfigError: the folder holds such shards already, or cannot be made.
    """

    def __init__(self, folder: Path, name: str, size: int) -> None:
        self.folder, self.name, self.size = folder, name, size
        self.index: list[dict[str, Any]] = []
        self.samples = self.bytes = 0
        self._tar: Any = None
        self._in_tar = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError("--out", str(folder), f"a folder that can be made: {error.strerror}") from error
        if next(folder.glob(f"{name}-*.tar"), None) is not None:
            raise ConfigError("--out", str(folder), f"a folder without {name}-*.tar; another one, or another --name")

    def add(self, key: str, members: dict[str, bytes]) -> None:
        """One more sample."""
        if self._tar is None:
            # No time of writing within: the same input gives the same bytes and the same sha256.
            self._tar = webdataset.TarWriter(str(self._partial), encoder=False, mtime=0)
        self._tar.write({"__key__": key, **members})
        self._in_tar += 1
        self.samples += 1
        if self._in_tar == self.size:
            self._finish()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Finish the last shard and write the index; after an error nothing half done is left."""
        if error is not None:
            if self._tar is not None:
                self._tar.close()
                self._partial.unlink()
            return
        if self._tar is not None:
            self._finish()
        if self.index:
            content = {"samples": self.samples, "bytes": self.bytes, "shards": self.index}
            (self.folder / INDEX).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @property
    def _partial(self) -> Path:
        return self.folder / f".{self.name}-{len(self.index):05d}.tar.partial"

    def _finish(self) -> None:
        self._tar.close()
        path = self._partial.rename(self.folder / f"{self.name}-{len(self.index):05d}.tar")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        self.bytes += size
        self.index.append({"shard": path.name, "samples": self._in_tar, "bytes": size, "sha256": digest})
        self._tar, self._in_tar = None, 0
