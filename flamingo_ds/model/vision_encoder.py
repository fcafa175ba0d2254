"""Features of a vision encoder, taken where the configuration says.

"The last layer's tokens" is not one thing: libraries differ in whether the final norm was applied and whether the
class token is among them, and a trained Flamingo only fits the choice it was trained with. Both are explicit here.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from transformers import PreTrainedModel

# transformers model_type -> whether its last_hidden_state has gone through the final norm, and its class tokens.
VITS = {"clip_vision_model": (False, 1), "siglip_vision_model": (True, 0)}
CONVOLUTIONAL = "timm_wrapper"


def check_features(family: str, features: str, class_token: bool) -> None:
    """Refuse features that a family of encoders does not have.

    Raises:
        ValueError: the setting, its value and what was expected.
    """
    if family == CONVOLUTIONAL:
        if features != "grid":
            raise ValueError(f"vision_features is {features!r}; expected 'grid', all that a timm network has")
    elif family not in VITS:
        known = ", ".join([*VITS, CONVOLUTIONAL])
        raise ValueError(f"vision_config has model_type {family!r}; expected one of {known}")
    elif features == "grid":
        raise ValueError("vision_features is 'grid'; expected 'pre_norm' or 'post_norm' of a ViT")
    if class_token and (family == CONVOLUTIONAL or not VITS[family][1]):
        raise ValueError(f"vision_class_token is True; a {family} has no class token")


def encode_images(
    encoder: PreTrainedModel, pixel_values: torch.Tensor, features: str, class_token: bool
) -> torch.Tensor:
    """Vision tokens of images, without gradient while the encoder is frozen.

    Args:
        encoder: a transformers CLIP or SigLIP vision model, or a timm network in transformers' wrapper.
        pixel_values: (N, C, H, W), normalised as the encoder expects. A ViT interpolates its position embeddings where
            H x W is not what it was trained on.
        features: ``pre_norm``, ``post_norm`` or ``grid``.
        class_token: keep the first token, which stands for the whole image.

    Returns:
        (N, P, D).

    Raises:
        ValueError: images of another number of channels, or smaller than a patch.
    """
    channels = getattr(encoder.config, "num_channels", 3)
    if pixel_values.shape[1] != channels:
        raise ValueError(f"images have {pixel_values.shape[1]} channels; expected {channels}")
    trains = any(parameter.requires_grad for parameter in encoder.parameters())
    with contextlib.nullcontext() if trains else torch.no_grad():
        if features == "grid":
            return encoder(pixel_values=pixel_values).last_hidden_state.flatten(2).transpose(1, 2)
        normed, class_tokens = VITS[encoder.config.model_type]
        with _input_of(encoder.get_submodule("post_layernorm")) as before_norm:
            tokens = encoder(pixel_values=pixel_values, **_interpolation(encoder, pixel_values)).last_hidden_state
        if features == "post_norm" and not normed:
            tokens = encoder.get_submodule("post_layernorm")(tokens)
        elif features == "pre_norm" and normed:
            tokens = before_norm[0]
        return tokens if class_token else tokens[:, class_tokens:]


def _interpolation(encoder: PreTrainedModel, pixel_values: torch.Tensor) -> dict[str, Any]:
    size, given = encoder.config.image_size, tuple(pixel_values.shape[-2:])
    if given == ((size, size) if isinstance(size, int) else tuple(size)):
        return {}
    if min(given) < encoder.config.patch_size:
        raise ValueError(f"images are {given[0]} x {given[1]}; expected at least a patch, {encoder.config.patch_size}")
    return {"interpolate_pos_encoding": True}


@contextlib.contextmanager
def _input_of(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """What a module is called with while this is open."""
    seen: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        yield seen
    finally:
        handle.remove()
