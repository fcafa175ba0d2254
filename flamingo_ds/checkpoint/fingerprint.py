"""What identifies the frozen base that a checkpoint belongs to."""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from ..config import ConfigError, ModelConfig


@dataclass(frozen=True)
class Fingerprint:
    """Source, revision and content of the frozen weights.

    Attributes:
        language_model, vision_encoder: where they came from, with revision or tag.
        tensors: number of frozen tensors.
        sha256: over their names, dtypes, shapes and bytes, in the order of their names.
    """

    language_model: str
    vision_encoder: str
    tensors: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def fingerprint(model: nn.Module, recipe: ModelConfig) -> Fingerprint:
    """Hash the frozen parameters as they came from their source, before any cast."""
    frozen = {name: parameter for name, parameter in model.named_parameters() if not parameter.requires_grad}
    digest = hashlib.sha256()
    for name in sorted(frozen):
        tensor = frozen[name].detach().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())  # type: ignore[arg-type]
    return Fingerprint(
        language_model=_origin(recipe.language_model.source, recipe.language_model.revision),
        vision_encoder=_origin(recipe.vision_encoder.source, recipe.vision_encoder.pretrained),
        tensors=len(frozen),
        sha256=digest.hexdigest(),
    )


def require_same_base(saved: dict[str, Any], found: Fingerprint, checkpoint: str) -> None:
    """Refuse to put a checkpoint on another base than it was trained on.

    Raises:
        ConfigError: content differs; the names of both bases are in the message.
    """
    if saved["sha256"] != found.sha256 or saved["tensors"] != found.tensors:
        raise ConfigError(
            "frozen base",
            f"{found.language_model} + {found.vision_encoder}, sha256 {found.sha256[:12]}",
            f"the base of {checkpoint}: {saved['language_model']} + {saved['vision_encoder']}, "
            f"sha256 {saved['sha256'][:12]}",
        )


def _origin(source: str, revision: str | None) -> str:
    return f"{source}@{revision}" if revision else source
