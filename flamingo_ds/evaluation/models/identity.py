"""Telling one model's weights from another's."""

import hashlib
import json
from pathlib import Path

import torch


def files_identity(folder: Path) -> str:
    """Of a folder, by names, sizes and times of its files: what is written anew is another model."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    about = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def weights_identity(module: torch.nn.Module) -> str:
    """Of a module, by its weights' bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def one_line(error: Exception) -> str:
    """The first line of a message, or what it is of."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
