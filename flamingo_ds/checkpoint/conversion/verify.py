"""Looking at a written folder with other eyes: safetensors' own reader, and transformers' own loading."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ...config import ConfigError
from ...model import FlamingoForConditionalGeneration
from ..store import Checkpoint
from ..stored_tensor import CHUNK_ELEMENTS
from .folder import MANIFEST


@dataclass(frozen=True)
class Verified:
    """What was found.

    Attributes:
        tensors: number of tensors whose hashes agree.
        logit_difference: largest absolute one to the training engine's logits; None where the checkpoint has none.
    """

    tensors: int
    logit_difference: float | None


def verify_export(folder: Path, checkpoint: Checkpoint) -> Verified:
    """Read everything again and compare.

    Raises:
        ConfigError: a tensor that is not what was written.
    """
    return Verified(verify_hashes(folder), logit_difference(folder, checkpoint))


def verify_hashes(folder: Path) -> int:
    """Hold every tensor against the manifest.

    Returns:
        Their number.

    Raises:
        ConfigError: a file that does not open, or a tensor with other bytes, dtype or shape, or not in the manifest.
    """
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["tensors"]
    seen: set[str] = set()
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    if _describe(file.get_tensor(name)) != manifest.get(name):
                        raise ConfigError(name, str(path), "the bytes that the manifest says")
                    seen.add(name)
        except (OSError, SafetensorError) as error:
            raise ConfigError("OUT", str(path), f"a whole safetensors file: {error}") from error
    if missing := sorted(manifest.keys() - seen):
        raise ConfigError("OUT", str(folder), f"all tensors of its manifest; {missing[0]} is in no file")
    return len(seen)


@torch.no_grad()
def logit_difference(folder: Path, checkpoint: Checkpoint) -> float | None:
    """Between a folder's logits on the checkpoint's reference batch and those of the engine that trained it."""
    if not checkpoint.has_reference:
        return None
    reference = checkpoint.reference()
    expected = reference.pop("logits")
    reference.pop("labels", None)
    model = FlamingoForConditionalGeneration.from_pretrained(folder, dtype="auto").eval()
    reference["pixel_values"] = reference["pixel_values"].to(model.dtype)
    return float((model(**reference).logits.float() - expected.float()).abs().max())


def _describe(tensor: torch.Tensor) -> dict[str, object]:
    digest = hashlib.sha256()
    flat = tensor.reshape(-1)
    for part in flat.split(CHUNK_ELEMENTS):
        digest.update(part.contiguous().view(torch.uint8).numpy())  # type: ignore[arg-type]
    return {
        "sha256": digest.hexdigest(),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
    }
