"""Features of a vision encoder, taken where the configuration says.

"The last layer's tokens" is not one thing: libraries differ in whether the final norm was applied and whether the
class token is among them, and a trained Flamingo only fits the choice it was trained with. Both are explicit here.
"""

import contextlib

import torch
from transformers import PreTrainedModel


def encode_images(
    encoder: PreTrainedModel, pixel_values: torch.Tensor, features: str, class_token: bool
) -> torch.Tensor:
    """Vision tokens of images, without gradient while the encoder is frozen.

    Args:
        encoder: a transformers CLIP vision model.
        pixel_values: (N, C, H, W), normalised as the encoder expects.
        features: ``pre_norm`` or ``post_norm``.
        class_token: keep the first token, which stands for the whole image.

    Returns:
        (N, P, D).
    """
    trains = any(parameter.requires_grad for parameter in encoder.parameters())
    with contextlib.nullcontext() if trains else torch.no_grad():
        tokens = encoder(pixel_values=pixel_values).last_hidden_state
        if features == "post_norm":
            tokens = encoder.get_submodule("post_layernorm")(tokens)
        return tokens if class_token else tokens[:, 1:]
