"""Pictures and shards for the tests of this folder."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

Member = tuple[str, bytes]


def picture(red: int, kind: str = "PNG", size: tuple[int, int] = (8, 8)) -> bytes:
    """An image file whose red channel says which one it is."""
    file = io.BytesIO()
    Image.new("RGB", size, (red, 0, 0)).save(file, kind)
    return file.getvalue()


def pair(key: str, text: str | bytes = "a red cat", image: bytes | None = None) -> list[Member]:
    content = text if isinstance(text, bytes) else text.encode()
    return [(f"{key}.png", picture(1) if image is None else image), (f"{key}.txt", content)]


def page(key: str, texts: Any, images: Any, pictures: Iterable[bytes]) -> list[Member]:
    members = [(f"{key}.{number}.png", content) for number, content in enumerate(pictures)]
    return [*members, (f"{key}.json", json.dumps({"texts": texts, "images": images}).encode())]


def write_tar(path: Path, members: Iterable[Member]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path


def write_shards(folder: Path, sizes: Iterable[int], prefix: str = "pairs") -> list[str]:
    """Shards of pairs; the text of each names it: shard 1, sample 2 is ``1-2``."""
    paths = []
    for shard, size in enumerate(sizes):
        samples = [pair(f"{index:03}", f"{shard}-{index}", picture(index % 256)) for index in range(size)]
        paths.append(
            str(write_tar(folder / f"{prefix}-{shard:03}.tar", [part for sample in samples for part in sample]))
        )
    return paths
