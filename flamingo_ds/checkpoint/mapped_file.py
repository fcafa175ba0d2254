"""safetensors files, read through a map that is shared and read-only.

The library's own reader maps a file privately and writable, which the kernel counts as memory that the process may come
to need (RLIMIT_DATA, strict overcommit): a node with less memory than the backbone could not even open it.

A file is eight bytes of length, a JSON header of that length, and the tensors' bytes one behind the other.
"""

import json
import mmap
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000


class DamagedFileError(ValueError):
    """Not a whole safetensors file; the message says why."""


class MappedFile(Mapping[str, torch.Tensor]):
    """The tensors of one file: views that must not be written to.

    Args:
        path: of the file.

    Raises:
        OSError: it cannot be read.
        DamagedFileError: it is no safetensors file, or a truncated one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = read_header(path)
        self.metadata: Mapping[str, str] = self.header.pop("__metadata__", {})
        self.data_start = LENGTH_BYTES
        with path.open("rb") as file:
            self.data_start += int.from_bytes(file.read(LENGTH_BYTES), "little")
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __getitem__(self, name: str) -> torch.Tensor:
        dtype, shape = self.dtype(name), self.shape(name)
        if shape.numel() == 0:
            return torch.empty(shape, dtype=dtype)
        offset = self.data_start + self.header[name]["data_offsets"][0]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            flat = torch.frombuffer(self.map, dtype=dtype, offset=offset, count=shape.numel())
        return flat.view(shape)

    def __contains__(self, name: object) -> bool:
        return name in self.header

    def __iter__(self) -> Iterator[str]:
        return iter(self.header)

    def __len__(self) -> int:
        return len(self.header)

    def shape(self, name: str) -> torch.Size:
        """Of a tensor."""
        return torch.Size(self.header[name]["shape"])

    def dtype(self, name: str) -> torch.dtype:
        """Of a tensor."""
        return DTYPES[self.header[name]["dtype"]]


def read_header(path: Path) -> dict[str, Any]:
    """Name -> dtype, shape and offsets of every tensor, and ``__metadata__`` where there is some; no tensor is read.

    Raises:
        OSError: the file cannot be read.
        DamagedFileError: it is no safetensors file, or not as long as its header says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if not 0 < length <= min(size - LENGTH_BYTES, MAX_HEADER_BYTES):
            raise DamagedFileError(f"{path.name} is no safetensors file")
        try:
            header: dict[str, Any] = json.loads(file.read(length))
            entries = [entry for name, entry in header.items() if name != "__metadata__"]
            for entry in entries:
                _check_entry(entry)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedFileError(f"{path.name} has a damaged header") from error
    end = LENGTH_BYTES + length + max((entry["data_offsets"][1] for entry in entries), default=0)
    if size != end:
        raise DamagedFileError(f"{path.name} has {size:,} bytes; its header says {end:,}")
    return header


def _check_entry(entry: Mapping[str, Any]) -> None:
    """One tensor's line must make sense alone, so that nothing is read past its bytes."""
    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end or end - begin != DTYPES[entry["dtype"]].itemsize * torch.Size(entry["shape"]).numel():
        raise ValueError(entry)
