"""A user's mistakes in what ``forward`` and ``generate`` are given, each as one line with its numbers.

They look at values, which on a GPU waits for it; a trainer's batches come with ``media_ids`` and were checked where
they were made, so that only :func:`check_shapes` runs on them.
"""

import torch

from .configuration import FlamingoConfig


def check_shapes(pixel_values: torch.Tensor, num_images: torch.Tensor | None, num_frames: torch.Tensor | None) -> None:
    """Refuse pixel values of another shape than (B, T, F, C, H, W), and counts that do not fit them.

    Raises:
        ValueError: what it is and what was expected.
    """
    if not isinstance(pixel_values, torch.Tensor):
        shapes = [tuple(getattr(item, "shape", ())) for item in pixel_values]
        raise ValueError(  # noqa: TRY004, the contract: ValueError
            f"pixel_values is a {type(pixel_values).__name__} of {shapes}; expected one tensor, sizes alike"
        )
    if pixel_values.ndim != 6:
        raise ValueError(f"pixel_values has shape {tuple(pixel_values.shape)}; expected (B, T, F, C, H, W)")
    batch, slots, frames = pixel_values.shape[:3]
    if 0 in pixel_values.shape:
        raise ValueError(
            f"pixel_values has shape {tuple(pixel_values.shape)}, which holds nothing; "
            "leave it out where there are no images"
        )
    if num_images is not None and num_images.shape != (batch,):
        raise ValueError(f"num_images has shape {tuple(num_images.shape)}; expected ({batch},)")
    if num_frames is not None and num_frames.shape != (batch, slots):
        raise ValueError(
            f"num_frames has shape {tuple(num_frames.shape)}; expected ({batch}, {slots}), each from 1 to {frames}"
        )


def check_text(config: FlamingoConfig, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> None:
    """Refuse a text that the LM cannot read.

    Args:
        config: of the model.
        input_ids: (B, L).
        attention_mask: (B, L) 1 for real tokens.

    Raises:
        ValueError: what it is and what was expected.
    """
    if input_ids.ndim != 2 or 0 in input_ids.shape:
        raise ValueError(f"input_ids has shape {tuple(input_ids.shape)}; expected (B, L) of at least one token")
    if input_ids.is_floating_point():
        raise ValueError(f"input_ids is of type {input_ids.dtype}; expected integers")
    length, context = input_ids.shape[1], config.context_length
    if context is not None and length > context:
        raise ValueError(f"the text has {length} tokens; expected at most {context}, the language model's context")
    low, high = int(input_ids.min()), int(input_ids.max())
    if low < 0 or high >= config.vocab_size:
        raise ValueError(f"input_ids has {low if low < 0 else high}; expected ids from 0 to {config.vocab_size - 1}")
    if attention_mask is not None:
        if attention_mask.shape != input_ids.shape:
            raise ValueError(
                f"attention_mask has shape {tuple(attention_mask.shape)}; "
                f"expected {tuple(input_ids.shape)} as input_ids"
            )
        if empty := (attention_mask.sum(-1) == 0).nonzero().flatten().tolist():
            raise ValueError(f"rows {empty} of attention_mask are all padding; expected a token in each")


def check_key_values(config: FlamingoConfig, input_ids: torch.Tensor, key_values: torch.Tensor) -> None:
    """Refuse keys and values of another shape than this model's.

    Raises:
        ValueError: its shape and the one expected.
    """
    inner = 2 * config.cross_attention_heads * config.cross_attention_head_width
    batch, blocks, latents = input_ids.shape[0], len(config.gated_block_indices), config.resampler_latents
    shape = tuple(key_values.shape)
    if len(shape) != 5 or (*shape[:2], *shape[3:]) != (batch, blocks, latents, inner):
        raise ValueError(f"media_key_values has shape {shape}; expected ({batch}, {blocks}, T, {latents}, {inner})")
    named = int((input_ids == config.image_token_id).sum(-1).max())
    if named > shape[2]:
        raise ValueError(f"the text names {named} images but media_key_values holds {shape[2]}")


def check_media(
    input_ids: torch.Tensor,
    image_token_id: int,
    pixel_values: torch.Tensor | None,
    num_images: torch.Tensor | None,
    num_frames: torch.Tensor | None,
) -> None:
    """Refuse a text that names more images than it is given, or fewer.

    Args:
        input_ids: (B, L).
        image_token_id: of ``<image>``.
        pixel_values, num_images, num_frames: as given to the model.

    Raises:
        ValueError: both numbers of each sequence.
    """
    named = (input_ids == image_token_id).sum(-1)
    batch, slots = input_ids.shape[0], 0
    if pixel_values is not None:
        check_shapes(pixel_values, num_images, num_frames)
        slots = pixel_values.shape[1]
        if pixel_values.shape[0] != batch:
            raise ValueError(f"pixel_values has {pixel_values.shape[0]} sequences; expected {batch} as input_ids")
    given = torch.full_like(named, slots)
    if num_images is not None and pixel_values is not None:
        given = num_images.to(named)
        if bool(((given < 0) | (given > slots)).any()):
            raise ValueError(f"num_images is {given.tolist()}; expected 0 to {slots}, the images in pixel_values")
    if bool((named != given).any()):
        raise ValueError(f"the text names {named.tolist()} images a sequence but {given.tolist()} were given")
    if num_frames is not None and pixel_values is not None:
        real = torch.arange(slots, device=given.device) < given.unsqueeze(1)
        counts = num_frames.to(named)[real]
        if bool(((counts < 1) | (counts > pixel_values.shape[2])).any()):
            raise ValueError(
                f"num_frames is {num_frames.tolist()}; expected 1 to {pixel_values.shape[2]} for each image"
            )
