"""What identifies the frozen base that a checkpoint belongs to."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch.distributed as dist
from torch import nn

from ..config import ConfigError, ModelConfig
from .stored_tensor import StoredTensor


@dataclass(frozen=True)
class Fingerprint:
    """Source, revision and content of the frozen weights.

    Attributes:
        language_model, vision_encoder: where they came from, with revision or tag.
        tensors: number of frozen tensors.
        sha256: over their names and each one's own over dtype, shape and bytes, in the order of their names.
    """

    language_model: str
    vision_encoder: str
    tensors: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def fingerprint(names: Iterable[str], stored: Callable[[str], StoredTensor], recipe: ModelConfig) -> Fingerprint:
    """Hash the frozen parameters as their source has them, before any cast. Collective where there are ranks.

    Every rank reads and hashes its share, whatever layout the weights will have.

    Args:
        names: of the frozen parameters.
        stored: their values.
        recipe: where they come from.
    """
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    ordered = sorted(names)
    lines = [f"{name} {_sha256(stored(name))}\n" for name in ordered[rank::ranks]]
    shares = [lines]
    if ranks > 1:
        shares = [[] for _ in range(ranks)]
        dist.all_gather_object(shares, lines)
    digest = hashlib.sha256()
    for position in range(len(ordered)):
        digest.update(shares[position % ranks][position // ranks].encode())
    return Fingerprint(
        language_model=_origin(recipe.language_model.source, recipe.language_model.revision),
        vision_encoder=_origin(recipe.vision_encoder.source, recipe.vision_encoder.pretrained),
        tensors=len(ordered),
        sha256=digest.hexdigest(),
    )


def frozen_names(model: nn.Module) -> list[str]:
    """Of the parameters that do not train."""
    return [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


def require_same_base(saved: Any, found: Fingerprint, checkpoint: str) -> None:
    """Refuse to put a checkpoint on another base than it was trained on.

    Raises:
        ConfigError: content differs, with the names of both bases in the message; or ``saved`` is no fingerprint.
    """
    if not isinstance(saved, dict) or not saved.keys() >= found.to_json().keys():
        raise ConfigError("checkpoint", checkpoint, "a checkpoint.json with the fingerprint of its frozen base")
    if saved["sha256"] != found.sha256 or saved["tensors"] != found.tensors:
        raise ConfigError(
            "frozen base",
            f"{found.language_model} + {found.vision_encoder}, sha256 {found.sha256[:12]}",
            f"the base of {checkpoint}: {saved['language_model']} + {saved['vision_encoder']}, "
            f"sha256 {saved['sha256'][:12]}",
        )


def _sha256(stored: StoredTensor) -> str:
    digest = hashlib.sha256(f"{stored.dtype} {tuple(stored.shape)}\n".encode())
    for chunk in stored.chunks():
        digest.update(chunk)
    return digest.hexdigest()


def _origin(source: str, revision: str | None) -> str:
    return f"{source}@{revision}" if revision else source
