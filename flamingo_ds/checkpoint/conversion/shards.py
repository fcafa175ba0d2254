"""safetensors files written as a stream: no tensor is ever in memory, only the chunk under way.

A file is eight bytes of length, a JSON header of that length, and the tensors' bytes one behind the other.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from .outputs import Output

CHUNK_BYTES = 4 * 2**20
ALIGNMENT = 8
SAFETENSORS_DTYPES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.bool: "BOOL",
}
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
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for output in outputs:
            digest = hashlib.sha256()
            written = 0
            for chunk in chunks(output):
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


def chunks(output: Output) -> Iterator[memoryview]:
    """A tensor's bytes in its dtype, a bounded number at a time."""
    for piece in output.pieces():
        flat = piece.detach().reshape(-1)
        size = CHUNK_BYTES // output.dtype.itemsize
        for start in range(0, flat.numel(), size):
            part = flat[start : start + size].to(output.dtype).contiguous()
            yield memoryview(part.view(torch.uint8).numpy())  # type: ignore[arg-type]


def file_bytes(outputs: Sequence[Output]) -> int:
    """Size of the file of these tensors."""
    return 8 + len(_header(outputs)) + sum(output.nbytes for output in outputs)


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
