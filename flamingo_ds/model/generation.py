"""``generate``: images are encoded, and their keys and values computed, once a prompt and never a step."""

from typing import Any

import torch

from .input_checks import check_key_values, check_media, check_text


class FlamingoGeneration:
    """What :class:`FlamingoForConditionalGeneration` adds to transformers' ``GenerationMixin``; it stands before it."""

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        *args: Any,
        pixel_values: torch.Tensor | None = None,
        num_images: torch.Tensor | None = None,
        num_frames: torch.Tensor | None = None,
        media_key_values: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """As transformers' ``generate``, whose arguments it takes; greedy, sampling, beams, assisted, static cache.

        The images go through vision encoder, resampler and key and value projections before prompts are repeated for
        beams or returned sequences; every step, and every beam, reads the result.

        Args:
            inputs: (B, L) ids; also as ``input_ids``. Pad prompts of unequal length on the left.
            args: transformers' own.
            pixel_values, num_images, num_frames, media_key_values: as in ``forward``.
            kwargs: transformers' own; an ``assistant_model`` is a Flamingo with the same tokenizer, and
                encodes the images for itself.

        Raises:
            ValueError: text and images that do not fit one another or the model.
        """
        model: Any = self
        input_ids = kwargs.pop("input_ids", None) if inputs is None else inputs
        if input_ids is None:
            raise ValueError("input_ids is None; expected (B, L) of at least one token")
        assistant_media = kwargs.pop("assistant_media_key_values", None)
        self._check(input_ids, kwargs)
        assistant = kwargs.get("assistant_model")
        if assistant is None and assistant_media is not None:
            media_key_values = assistant_media  # this model is the assistant, and these are its own
        if media_key_values is not None:
            check_key_values(model.config, input_ids, media_key_values)
        else:
            check_media(input_ids, model.config.image_token_id, pixel_values, num_images, num_frames)
        if pixel_values is not None and media_key_values is None:
            media_key_values = model.project_media(model.encode_media(pixel_values, num_images, num_frames))
            if assistant is not None:
                kwargs["assistant_media_key_values"] = _encode_for(assistant, pixel_values, num_images, num_frames)
        return super().generate(  # type: ignore[misc]
            input_ids, *args, media_key_values=media_key_values, **kwargs
        )

    def _check(self, input_ids: torch.Tensor, kwargs: dict[str, Any]) -> None:
        """Refuse what would go wrong in silence."""
        model: Any = self
        config = kwargs.get("generation_config") or model.generation_config
        if kwargs.get("prefill_chunk_size") or getattr(config, "prefill_chunk_size", None):
            raise ValueError(
                "prefill_chunk_size is set; expected none, as which image a token sees is told by the whole text"
            )
        cache = kwargs.get("past_key_values")
        cached = 0 if cache is None else cache.get_seq_length()
        if not cached:
            check_text(model.config, input_ids, kwargs.get("attention_mask"))
        elif cached >= input_ids.shape[-1]:
            raise ValueError(
                f"input_ids has {input_ids.shape[-1]} tokens with a cache of {cached}; expected the whole text"
            )

    def prepare_inputs_for_generation(
        self, input_ids: torch.LongTensor, assistant_media_key_values: torch.Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """One step's arguments of ``forward``; media ids come from the whole text so far."""
        model: Any = self
        context = model.config.context_length
        if context is not None and input_ids.shape[1] > context:
            raise ValueError(
                f"the text has grown to {input_ids.shape[1]} tokens; expected at most {context}, the context"
            )
        media_ids = model._media_ids(input_ids)
        inputs = super().prepare_inputs_for_generation(input_ids, **kwargs)  # type: ignore[misc]
        inputs["media_ids"] = media_ids[:, -inputs["input_ids"].shape[1] :]
        return inputs


def _encode_for(assistant: Any, *media: torch.Tensor | None) -> torch.Tensor:
    if not isinstance(assistant, FlamingoGeneration):
        raise ValueError(  # noqa: TRY004, the contract: ValueError
            f"assistant_model is a {type(assistant).__name__}; expected a Flamingo, as the prompt has images"
        )
    model: Any = assistant
    return model.project_media(model.encode_media(*media))
