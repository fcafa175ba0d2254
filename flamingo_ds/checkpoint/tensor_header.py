"""What stands at the beginning of a safetensors file; no tensor is read, and torch is not needed.

A file is eight bytes of length, a JSON header of that length, and the tensors' bytes one behind the other.
"""

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000
ITEM_BYTES = {
    "F64": 8,
    "F32": 4,
    "BF16": 2,
    "F16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}


class DamagedFileError(ValueError):
    """Not a whole safetensors file; the message says why."""


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
    (begin, end), shape = entry["data_offsets"], entry["shape"]
    size = ITEM_BYTES[entry["dtype"]] * prod(shape)
    if min(shape, default=0) < 0 or not 0 <= begin <= end or end - begin != size:
        raise ValueError(entry)
