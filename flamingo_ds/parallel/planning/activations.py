"""Bytes of activations, counted: the model's own forward and backward pass on tensors without contents.

Every storage that an operation makes is counted while it lives, so what autograd saves, what checkpointing recomputes
and what a backward pass holds for a moment are there as they will be; only the insides of a kernel are not.

Legend: B sequences, L tokens, T images a sequence, F frames an image, R latents, D their width, H LM width, N rows
that predict something.
"""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import cross_entropy

from ...model import FlamingoForConditionalGeneration, attention
from ...model.chunked_cross_entropy import applies_to, chunked_cross_entropy
from ...model.decoder_blocks import decoder_blocks, gated_blocks_before
from ...model.media_mask import MediaView, TokensByImage, by_image_pays, media_view
from ...model.new_tokens import embed
from ...model.vision_encoder import encode_images
from ..activation_checkpointing import recompute_blocks
from ..stage import PassThrough
from .batch_shape import BatchShape
from .repeated import take_out_repeated
from .tally import PartBytes, Tally


@dataclass(frozen=True)
class ActivationBytes:
    """A forward and backward pass.

    Attributes:
        parts: in the order of the forward pass: ``vision`` (encoder and resampler), ``embedding``, then for each LM
            block ``gated/<i>`` where there is one and ``lm/<i>``, and ``head`` (final norm and loss).
        peak: the most bytes at any moment, the batch and all that is not activations apart.
        hidden: bytes of (B, L, H).
        latents: bytes of (B, T, R, D).
    """

    parts: dict[str, PartBytes]
    peak: int
    hidden: int
    latents: int


def count_activations(
    model: FlamingoForConditionalGeneration,
    shape: BatchShape,
    dtype: torch.dtype,
    every: int = 0,
    device_type: str = "cuda",
) -> ActivationBytes:
    """Count one micro-batch's activations.

    Args:
        model: on the meta device or not; what trains is read from ``requires_grad``. It stays as it is.
        shape: of the micro-batch.
        dtype: of weights and activations.
        every: activation checkpointing of every n-th block of LM, gated layers and resampler; 0 for none.
        device_type: ``cuda`` counts attention as a fused kernel; ``cpu`` as torch would choose there.
    """
    ready = copy.deepcopy(model).train()
    with ExitStack() as modes:
        modes.enter_context(FakeTensorMode())
        if device_type != "cpu":
            # Not a mode of torch's, as backward passes run outside of these and would recompute another kernel.
            for module in (torch.nn.functional, attention):
                modes.enter_context(patch.object(module, "scaled_dot_product_attention", _fused_attention))
        recompute_blocks(ready, every)
        stand_ins = take_out_repeated(ready, every)
        _without_contents(ready, dtype)
        inputs = _Inputs(ready, shape, dtype)
        weights = [*ready.parameters(), *ready.buffers()]
        tally = Tally([*weights, *(weight.grad for weight in weights), *vars(inputs).values()])
        with tally, _marked(ready, tally):
            loss = _forward(ready, shape, inputs, tally)
            tally.enter("head", backward=True)
            loss.backward()
            tally.enter(None)
    element = dtype.itemsize
    config = ready.config
    parts, peak = tally.parts(stand_ins, config.text_config.num_hidden_layers)
    return ActivationBytes(
        parts,
        peak,
        shape.sequences * shape.tokens * config.text_config.hidden_size * element,
        shape.sequences * shape.images * config.resampler_latents * config.resampler_width * element,
    )


def _without_contents(model: nn.Module, dtype: torch.dtype) -> None:
    """Replace parameters and buffers by empty ones; each trainable parameter gets a gradient to add to."""
    made: dict[int, torch.Tensor] = {}  # tied weights stay one

    def empty(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        made.setdefault(id(tensor), torch.empty(tensor.shape, dtype=dtype, device="cpu"))
        return made[id(tensor)]

    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = empty(buffer, buffer.dtype)
        for name, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in made:
                new = nn.Parameter(empty(parameter, dtype), parameter.requires_grad)
                new.grad = torch.empty_like(new) if new.requires_grad else None
                made[id(parameter)] = new
            if parameter is not None:
                module._parameters[name] = made[id(parameter)]  # type: ignore[assignment]


class _Inputs:
    """Tensors that are there before the pass begins."""

    def __init__(self, model: FlamingoForConditionalGeneration, shape: BatchShape, dtype: torch.dtype) -> None:
        device, batch, length = model.device, shape.sequences, shape.tokens
        self.ids = torch.empty(batch, length, dtype=torch.int64, device=device)
        self.rows = torch.empty(self._targets(shape), dtype=torch.int64, device=device)
        pixels = (batch * shape.images, shape.frames, 3, shape.image_size, shape.image_size)
        self.pixels = torch.empty(pixels, dtype=dtype, device=device)
        self.shown = torch.empty(pixels[:2], dtype=torch.bool, device=device)
        self.places = torch.empty(pixels[0], dtype=torch.int64, device=device)
        self.mask = torch.empty(batch, 1, length, length, dtype=torch.bool, device=device) if shape.padded else None

    @staticmethod
    def _targets(shape: BatchShape) -> int:
        return shape.sequences * (shape.tokens - 1) if shape.targets is None else shape.targets


def _forward(model: FlamingoForConditionalGeneration, shape: BatchShape, inputs: _Inputs, tally: Tally) -> torch.Tensor:
    """As the model's own, but for boolean indexing, whose sizes depend on contents."""
    tally.enter("vision")
    latents = _encode(model, shape, inputs)
    config: Any = model.config
    view = _view(shape, config.resampler_latents, config.media_rule, model.device)
    tally.enter("embedding")
    hidden = embed(model.language_model, model.new_token_embedding, inputs.ids, config.first_new_token_id)
    blocks = decoder_blocks(model.language_model)
    chunked = applies_to(config.text_config)
    with (
        gated_blocks_before(blocks, model.gated_cross_attention, latents, view, False),
        _loss_head(model, inputs, chunked),
    ):
        output = model.language_model(inputs_embeds=hidden, attention_mask=inputs.mask, use_cache=False).logits
    del hidden, latents, view
    tally.enter("head")
    if chunked:
        return output.sum() / 1.0
    return cross_entropy(output[:, :-1].flatten(0, 1).float(), inputs.ids[:, 1:].flatten())


def _encode(model: FlamingoForConditionalGeneration, shape: BatchShape, inputs: _Inputs) -> torch.Tensor:
    images = inputs.pixels.index_select(0, inputs.places)
    frames = images.flatten(0, 1)
    tokens = encode_images(
        model.vision_model,
        frames.index_select(0, inputs.places.repeat_interleave(shape.frames, output_size=len(frames))),
        model.config.vision_features,
        model.config.vision_class_token,
    )
    features = tokens.new_zeros(*inputs.shown.shape, *tokens.shape[1:])
    features = features.masked_scatter(inputs.shown[..., None, None], tokens)
    latents: torch.Tensor = model.resampler(features, None)
    padded = latents.new_zeros(latents.shape)
    padded = padded.masked_scatter(torch.ones_like(inputs.places, dtype=torch.bool)[..., None, None], latents)
    return padded.unflatten(0, (shape.sequences, shape.images))


def _view(shape: BatchShape, latents: int, rule: str, device: torch.device) -> MediaView:
    """Made of example ids, as its form depends on them; what it holds has no contents here."""
    with torch.utils._python_dispatch._disable_current_modes():
        real = media_view(shape.example_media_ids(), shape.images, latents, rule, by_image_pays(shape.images))

    def empty(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)

    if real.by_image is None:
        return MediaView(empty(real.sees), None if real.mask is None else empty(real.mask))
    groups = real.by_image
    return MediaView(
        empty(real.sees), None, TokensByImage(empty(groups.images), empty(groups.tokens), empty(groups.results))
    )


@contextmanager
def _loss_head(model: FlamingoForConditionalGeneration, inputs: _Inputs, chunked: bool) -> Iterator[None]:
    """The LM's head giving the summed loss of N rows."""
    head, new_head = model.language_model.get_output_embeddings(), model.new_token_head

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden[:, :-1].flatten(0, 1).index_select(0, inputs.rows)
        new_logits = None if new_head is None else new_head(rows)
        first = model.config.first_new_token_id
        return chunked_cross_entropy(rows, head.weight, head.bias, new_logits, first, inputs.rows).view(1, 1, 1)

    if chunked:
        head.forward = forward
    yield


@contextmanager
def _marked(model: FlamingoForConditionalGeneration, tally: Tally) -> Iterator[None]:
    """Tell the tally when a block begins and ends, forward and backward."""
    named: list[tuple[str, nn.Module]] = [(f"gated/{name}", m) for name, m in model.gated_cross_attention.items()]
    blocks = enumerate(decoder_blocks(model.language_model))
    named += [(f"lm/{index}", block) for index, block in blocks if not isinstance(block, PassThrough)]
    last = f"lm/{model.config.text_config.num_hidden_layers - 1}"

    def watch(name: str, module: nn.Module) -> None:
        def begins(_module: nn.Module, _inputs: Any) -> None:
            # An LM block with a gated block begins behind that one, which runs between the two.
            if name.removeprefix("lm/") not in model.gated_cross_attention:
                tally.enter(name)

        def ends(_module: nn.Module, _inputs: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            if hidden.requires_grad:
                hidden.register_hook(lambda _gradient: tally.enter(name, backward=True))
            if name == last:
                tally.enter("head")
            elif name.startswith("gated/"):
                tally.enter(f"lm/{name[6:]}")

        module.register_forward_pre_hook(begins)
        module.register_forward_hook(ends)

    for name, module in named:
        watch(name, module)
    yield


def _fused_attention(query: Any, key: Any, value: Any, attn_mask: Any = None, *_: Any, **__: Any) -> torch.Tensor:
    """Attention by a kernel that keeps its inputs, its output and a number a row, and no scores, as all GPUs' do."""
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = attn_mask.to(query.dtype)  # torch makes it additive
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    output: torch.Tensor = kernel(query, key, value, attn_mask=attn_mask)[0]
    return output
