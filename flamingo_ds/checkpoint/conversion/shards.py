"""safetensors files written as a stream: no tensor is ever in memory, only the chunk under way.

A file is eight bytes of length, a JSON header of that length, and the tensors' bytes one behind the other.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..mapped_file import DTYPES
from ..tensor_header import LENGTH_BYTES
from .outputs import Output

ALIGNMENT = 8
SAFETENSORS_DTYPES = {dtype: name for name, dtype in DTYPES.items()}
Advance = Callable[[int], None]


def write_shard(path: Path, outputs: Sequence[Output], advance: Advance) -> dict[str, str]:
    """Write one file aside, flush it, and move it to ``path``.

    Args:
        path: of the file.
        outputs: its tensors, in order.
        advance: told of the bytes written.

    Returns:
        sha256 of each tensor's bytes by name.
    """
    partial = path.with_name(path.name + ".tmp")
    digests: dict[str, str] = {}
    with partial.open("wb") as file:
        header = _header(outputs)
        file.write(len(header).to_bytes(LENGTH_BYTES, "little"))
        file.write(header)
        for output in outputs:
            digest = hashlib.sha256()
            written = 0
            for chunk in (chunk for piece in output.pieces() for chunk in piece.chunks(output.dtype)):
                file.write(chunk)
                digest.update(chunk)
                written += len(chunk)
                advance(len(chunk))
            if written != output.nbytes:
                raise ValueError(f"{output.name} has {written} bytes; expected {output.nbytes}")
            digests[output.name] = digest.hexdigest()
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return digests


def file_bytes(outputs: Sequence[Output]) -> int:
    """Size of the file of these tensors."""
    return LENGTH_BYTES + len(_header(outputs)) + sum(output.nbytes for output in outputs)


def _header(outputs: Sequence[Output]) -> bytes:
    content: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for output in outputs:
        content[output.name] = {
            "dtype": SAFETENSORS_DTYPES[output.dtype],
            "shape": list(output.shape),
            "data_offsets": [offset, offset + output.nbytes],
        }
        offset += output.nbytes
    text = json.dumps(content, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % ALIGNMENT)
