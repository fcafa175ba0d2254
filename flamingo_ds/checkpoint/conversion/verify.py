"""Looking at a written folder with other eyes: safetensors' and torch's own readers, and transformers' own loading."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForImageTextToText

from ...config import ConfigError
from ...model import FlamingoConfig, FlamingoForConditionalGeneration
from ..names import MANIFEST, OPENFLAMINGO
from ..store import Checkpoint
from .folder import describe
from .folder_tensors import load_pickle
from .source_checkpoint import EVERYTHING
from .to_idefics import idefics_inputs


@dataclass(frozen=True)
class Verified:
    """What was found.

    Attributes:
        tensors: number of tensors whose hashes agree.
        logit_difference: largest absolute one to the training engine's logits; None where they cannot be compared: the
            checkpoint has none, or the folder is no whole model of transformers'.
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
    manifest = _manifest(folder)["tensors"]
    seen: set[str] = set()
    for name, tensor in _tensors(folder):
        if describe(tensor) != manifest.get(name):
            raise ConfigError(name, str(folder), "the bytes that the manifest says")
        seen.add(name)
    if missing := sorted(manifest.keys() - seen):
        raise ConfigError("OUT", str(folder), f"all tensors of its manifest; {missing[0]} is in no file")
    return len(seen)


@torch.no_grad()
def logit_difference(folder: Path, checkpoint: Checkpoint) -> float | None:
    """Between a folder's logits on the checkpoint's reference batch and those of the engine that trained it."""
    if not checkpoint.has_reference or _manifest(folder)["holds"] != EVERYTHING:
        return None
    reference = checkpoint.reference()
    expected = reference.pop("logits")
    reference.pop("labels", None)
    family = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    ours = family == FlamingoConfig.model_type
    loader = FlamingoForConditionalGeneration if ours else AutoModelForImageTextToText
    model = loader.from_pretrained(folder, dtype="auto").eval()
    config = FlamingoConfig.from_pretrained(checkpoint.path / "model")
    inputs = reference if ours else idefics_inputs(reference, config.image_token_id)
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    logits = model(**inputs).logits[..., : expected.shape[-1]]
    return float((logits.float() - expected.float()).abs().max())


def _manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return content


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    if (folder / OPENFLAMINGO).is_file():
        yield from load_pickle(folder / OPENFLAMINGO)["model_state_dict"].items()
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    yield name, file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise ConfigError("OUT", str(path), f"a whole safetensors file: {error}") from error
