"""FLOPs of a training step by formula, part by part; a multiplication and an addition are two.

What is frozen costs no weight gradients, and where nothing below it trains no input gradients either: the usual six
FLOPs a parameter and token are 0.85 to 1.44 times the truth for a Flamingo.

Counted as torch's own counter does: matrix products and attention over the full square (a causal kernel does half of
it), no norms, activations or embeddings. Attention's backward pass is 2.5 times its forward, as fused kernels form the
scores again.

Legend: L tokens, P vision tokens a frame, F frames an image, R latents, V words, H LM width.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers.pytorch_utils import Conv1D

from .decoder_blocks import decoder_blocks
from .modeling import FlamingoForConditionalGeneration
from .vision_encoder import CONVOLUTIONAL, VITS

ATTENTION_BACKWARD = 2.5


@dataclass(frozen=True)
class PartFlops:
    """Cost of one part for one unit.

    Attributes:
        unit: ``token`` of the text, or ``image`` (all frames of it).
        forward, backward: FLOPs.
    """

    unit: str
    forward: float
    backward: float


def count_flops(
    model: FlamingoForConditionalGeneration,
    tokens: int,
    frames: int = 1,
    image_size: int | None = None,
    of_vision: tuple[float, int] | None = None,
) -> dict[str, PartFlops]:
    """Every part of a model; what trains is read from ``requires_grad``.

    Args:
        model: may be on the meta device.
        tokens: L, which the LM's attention grows with.
        frames: F.
        image_size: pixels a side; None: what a ViT was trained on (a timm network needs it given).
        of_vision: what :func:`vision_flops` gave for this size, for whoever asks more than once.

    Returns:
        By name: ``vision``, ``resampler``, ``gated/<i>`` and ``gated/<i>/media`` (keys and values of an image),
        ``lm/<i>``, ``head``; i is the LM block's index.

    Raises:
        ValueError: a timm network without an image size.
    """
    vision, patches = of_vision or vision_flops(model, image_size)
    parts = {"vision": PartFlops("image", frames * vision, 2 * frames * vision if _trains(model.vision_model) else 0.0)}
    parts["resampler"] = _resampler(model, frames * patches)
    flows = _trains(model.language_model.get_input_embeddings()) or _trains(model.new_token_embedding)
    for index, block in enumerate(decoder_blocks(model.language_model)):
        if str(index) in model.gated_cross_attention:
            parts |= _gated(model, index)
            flows = flows or _trains(model.gated_cross_attention[str(index)])
        flows = flows or _trains(block)
        parts[f"lm/{index}"] = _block(model, block, tokens, flows)
    heads = [head for head in (model.language_model.get_output_embeddings(), model.new_token_head) if head is not None]
    parts["head"] = PartFlops("token", _matrices(heads), _backward(heads, flows))
    return parts


def total_flops(parts: dict[str, PartFlops], tokens: int, images: int) -> PartFlops:
    """A sequence of so many tokens and images."""
    counts = {"token": tokens, "image": images}
    forward = sum(counts[part.unit] * part.forward for part in parts.values())
    backward = sum(counts[part.unit] * part.backward for part in parts.values())
    return PartFlops("sequence", forward, backward)


def _trains(module: nn.Module | None) -> bool:
    return module is not None and any(parameter.requires_grad for parameter in module.parameters())


def _matrices(modules: Iterable[nn.Module]) -> float:
    """FLOPs of one token through all linear layers within."""
    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, nn.Linear | Conv1D)]
    return 2.0 * sum(layer.weight.numel() for layer in layers)


def _backward(modules: Iterable[nn.Module], flows: bool) -> float:
    """One product for the inputs where a gradient flows below, one for the weights where they train."""
    return sum(_matrices([module]) * ((flows or _trains(module)) + _trains(module)) for module in modules)


def vision_flops(model: FlamingoForConditionalGeneration, image_size: int | None) -> tuple[float, int]:
    """Forward FLOPs of one frame, and its number of tokens."""
    encoder: Any = model.vision_model
    config = model.config.vision_config
    if config.model_type == CONVOLUTIONAL:
        if image_size is None:
            raise ValueError(f"image_size is None; expected a number, as {config.architecture} names none")
        return _counted(encoder, image_size)
    side = (image_size or config.image_size) // config.patch_size
    tokens = side * side + VITS[config.model_type][1]
    patch = encoder.embeddings.patch_embedding.weight.numel()
    layers: list[nn.Module] = list(encoder.encoder.layers)
    attention = 4.0 * tokens * tokens * config.hidden_size * len(layers)
    flops = 2.0 * patch * side * side + tokens * _matrices(layers) + attention
    return flops, side * side + (VITS[config.model_type][1] if model.config.vision_class_token else 0)


def _counted(encoder: nn.Module, image_size: int) -> tuple[float, int]:
    """A convolutional network has no short formula; torch counts it on the meta device."""
    weight = next(encoder.parameters())
    pixels = torch.zeros(1, 3, image_size, image_size, dtype=weight.dtype, device=weight.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        grid = encoder(pixel_values=pixels).last_hidden_state
    return float(counter.get_total_flops()), grid.shape[-1] * grid.shape[-2]


def _resampler(model: FlamingoForConditionalGeneration, features: int) -> PartFlops:
    resampler: Any = model.resampler
    config = model.config
    if config.resampler_kind == "mean":
        linear = _matrices([resampler])
        return PartFlops("image", linear, linear * (_trains(resampler) + _trains(model.vision_model)))
    context = features + config.resampler_latents
    forward = backward = 0.0
    for block in resampler.blocks:
        attention = block.attention
        by_latents = [attention.to_queries, attention.to_out, block.feed_forward]
        inner = config.resampler_heads * config.resampler_head_width
        core = 4.0 * config.resampler_latents * context * inner
        linear = config.resampler_latents * _matrices(by_latents) + context * _matrices([attention.to_keys_values])
        forward += linear + core
        backward += (2 * linear + ATTENTION_BACKWARD * core) * _trains(resampler)
    if resampler.project is not None:
        forward += features * _matrices([resampler.project])
        backward += features * _backward([resampler.project], _trains(model.vision_model))
    return PartFlops("image", forward, backward)


def _gated(model: FlamingoForConditionalGeneration, index: int) -> dict[str, PartFlops]:
    config = model.config
    block: Any = model.gated_cross_attention[str(index)]
    inner = config.cross_attention_heads * config.cross_attention_head_width
    core = 4.0 * config.resampler_latents * inner
    media = config.resampler_latents * _matrices([block.attention.to_keys_values])
    linear = _matrices([block]) - _matrices([block.attention.to_keys_values])
    factor = float(_trains(block))
    return {
        f"gated/{index}": PartFlops("token", linear + core, factor * (2 * linear + ATTENTION_BACKWARD * core)),
        f"gated/{index}/media": PartFlops("image", media, factor * 2 * media),
    }


def _block(model: FlamingoForConditionalGeneration, block: nn.Module, tokens: int, flows: bool) -> PartFlops:
    text = model.config.text_config
    width = text.num_attention_heads * (getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
    core = 4.0 * tokens * width
    backward = _backward([block], flows) + flows * ATTENTION_BACKWARD * core
    return PartFlops("token", _matrices([block]) + core, backward)
