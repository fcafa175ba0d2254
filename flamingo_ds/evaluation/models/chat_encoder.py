"""Picture features of any image-text model of transformers, for RICES."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from ...config import ConfigError
from .identity import one_line, weights_identity
from .model import KEY


class ChatEncoder:
    """The mean of what ``get_image_features`` gives for a picture.

    Args:
        model: with its weights.
        processor: its own.
        name: of the model, for messages.

    Raises:
        ConfigError: a model without picture features.
    """

    def __init__(self, model: Any, processor: Any, name: str) -> None:
        self.model, self.processor, self.name = model, processor, name
        if not hasattr(model, "get_image_features") or not hasattr(processor, "image_processor"):
            raise ConfigError("--select", "rices", f"a model with get_image_features; {name} has none")
        self.key = f"{weights_identity(model)} mean of get_image_features"

    @torch.inference_mode()
    def features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """(N, D) float32 on the CPU, one picture at a time: they may come out in any number of tokens."""
        return torch.stack([self._feature(image) for image in images])

    def _feature(self, image: Image.Image) -> torch.Tensor:
        inputs = self.processor.image_processor(images=[image], return_tensors="pt").to(self.model.device)
        given = {
            name: value.to(self.model.dtype) if value.is_floating_point() else value for name, value in inputs.items()
        }
        try:
            found = self.model.get_image_features(**given)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(KEY, self.name, f"features of a picture alone: {one_line(error)}") from error
        found = getattr(found, "pooler_output", found)
        tokens = torch.cat(list(found)) if isinstance(found, list | tuple) else found
        return tokens.float().reshape(-1, tokens.shape[-1]).mean(0).cpu()
