"""safetensors files, read through a map that is shared and read-only.

The library's own reader maps a file privately and writable, which the kernel counts as memory that the process may come
to need (RLIMIT_DATA, strict overcommit): a node with less memory than the backbone could not even open it.
"""

import mmap
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from .tensor_header import LENGTH_BYTES, read_header

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
