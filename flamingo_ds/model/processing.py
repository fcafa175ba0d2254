"""The processor: prompts with their images and videos, to the tensors that the model takes."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import BatchFeature, ProcessorMixin

from .chat_template import CHAT_TEMPLATE
from .picture_fit import fit_picture
from .prompt_media import IMAGE_TOKEN, VIDEO_PLACE, Frames, frames_of, media_of_prompts

EOC_TOKEN = "<EOC>"
# Tokenizers that know no limit name one of about 1e30.
NO_LIMIT = 10**9


class FlamingoProcessor(ProcessorMixin):
    """An image processor and a tokenizer that knows ``<image>`` and ``<EOC>``.

    Example::

        inputs = processor(images=[[a, b]], text=["<image>a seven<EOC><image>"])
        inputs = processor(videos=frames, text="<video>Output:")

    Args:
        image_processor: of the vision encoder.
        tokenizer: of the language model.
        chat_template: another than the model's own.
        fit: how pictures become square, if not as the image processor does it: ``pad``, ``crop`` or ``squash``.

    Raises:
        ValueError: a tokenizer that lacks one of the two.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        fit: str | None = None,
    ) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE)
        self.fit = fit
        tokenizer.padding_side = "left"  # prompts of unequal length are continued at their right end
        known = tokenizer.get_vocab()
        if missing := [token for token in (IMAGE_TOKEN, EOC_TOKEN) if token not in known]:
            raise ValueError(
                f"the tokenizer's {len(known)} tokens lack {', '.join(missing)}; expected both to be added"
            )
        self.image_token = IMAGE_TOKEN
        self.image_token_id = known[IMAGE_TOKEN]
        self.eoc_token_id = known[EOC_TOKEN]

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        videos: Any = None,
        audio: None = None,
        padding: bool | str = True,
        return_tensors: str = "pt",
        text_kwargs: dict[str, Any] | None = None,
        video_metadata: Any = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Tokenise prompts and transform their images.

        Args:
            images: PIL images or uint8 arrays: one, a flat list dealt out in the order of the ``<image>`` tokens, or a
                list for each text.
            text: one prompt or several; ``<image>`` and ``<video>`` stand where the media belong.
            videos: the same of videos, each a list of frames or an array (F, H, W, C) or (F, C, H, W); choosing the
                frames is the caller's.
            audio: there is none.
            padding: of the texts, on the left unless ``padding_side`` says otherwise.
            return_tensors: ``pt``; the images come as torch tensors only.
            text_kwargs, kwargs: the tokenizer's own.
            video_metadata: of transformers' loader, not looked at.

        Returns:
            ``input_ids``, ``attention_mask`` (B, L); with images ``pixel_values`` (B, T, F, C, H, W), zeros where there
            is no image or frame, and ``num_images`` (B,); with videos also ``num_frames`` (B, T).

        Raises:
            ValueError: a text whose places do not match its media, a text without a token or past the language model's
                context, images that come out in different sizes, another return type.
        """
        texts = [text] if isinstance(text, str) else list(text or [])
        if not texts or not all(isinstance(prompt, str) for prompt in texts):
            raise ValueError(f"text is {text!r}; expected one prompt or a list of prompts")
        if return_tensors != "pt":
            raise ValueError(f"return_tensors is {return_tensors!r}; expected 'pt'")
        if audio is not None:
            raise ValueError("audio is given; expected images and videos only")
        rows = media_of_prompts(texts, images, videos)
        data = self._tokens(texts, rows, padding, {**(text_kwargs or {}), **kwargs})
        if any(rows):
            data |= self._pixels(rows)
        return BatchFeature(data, tensor_type="pt")

    def transform(self, image: Any) -> torch.Tensor:
        """One image to (C, H, W), as in training."""
        return self._transformed([frames_of(image)[0]])[0]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of a transformed square image."""
        blank = self.image_processor(Image.new("RGB", (64, 64)), return_tensors="pt")["pixel_values"]
        height, width = blank.shape[-2:]
        return height, width

    def _tokens(self, texts: list[str], rows: list[list[Frames]], padding: Any, kwargs: Any) -> dict[str, torch.Tensor]:
        """Ids and mask, after every check of a text's own."""
        prompts = [prompt.replace(VIDEO_PLACE, IMAGE_TOKEN) for prompt in texts]
        encoded = self.tokenizer(prompts, padding=padding, **{**kwargs, "return_tensors": None})
        lengths = [sum(mask) for mask in encoded["attention_mask"]]
        if 0 in lengths:
            raise ValueError(f"text {lengths.index(0)} is {texts[lengths.index(0)]!r}, no token; expected at least one")
        limit = self.tokenizer.model_max_length
        if limit < NO_LIMIT and max(lengths) > limit:
            raise ValueError(f"text {lengths.index(max(lengths))} has {max(lengths)} tokens; expected at most {limit}")
        counts = [ids.count(self.image_token_id) for ids in encoded["input_ids"]]
        if counts != [len(row) for row in rows]:
            raise ValueError(f"truncation left {counts} of {[len(row) for row in rows]} images; expected all")
        if len({len(ids) for ids in encoded["input_ids"]}) > 1:
            raise ValueError(f"texts of {lengths} tokens with padding={padding!r}; expected padding, or one length")
        return {
            name: torch.tensor(values) for name, values in encoded.items() if name in ("input_ids", "attention_mask")
        }

    def _transformed(self, frames: Frames) -> torch.Tensor:
        """(F, C, H, W)."""
        if self.fit is not None:
            frames = [fit_picture(frame, self.fit, self.image_processor) for frame in frames]
        return self.image_processor(frames, return_tensors="pt")["pixel_values"]

    def _pixels(self, rows: list[list[Frames]]) -> dict[str, torch.Tensor]:
        """Media of each text to (B, T, F, C, H, W), short rows and videos padded with zeros."""
        media = [[self._transformed(frames) for frames in row] for row in rows]
        sizes = sorted({tuple(item.shape[1:]) for row in media for item in row})
        if len(sizes) > 1:
            raise ValueError(f"images come out in sizes {sizes}; expected one, see the image processor's size and crop")
        slots, frames = max(len(row) for row in media), max(len(item) for row in media for item in row)
        pixels = torch.zeros(len(rows), slots, frames, *sizes[0])
        num_frames = torch.zeros(len(rows), slots, dtype=torch.long)
        for index, row in enumerate(media):
            for slot, item in enumerate(row):
                pixels[index, slot, : len(item)] = item
                num_frames[index, slot] = len(item)
        data = {"pixel_values": pixels, "num_images": torch.tensor([len(row) for row in rows])}
        return data if frames == 1 else data | {"num_frames": num_frames}

    @property
    def model_input_names(self) -> list[str]:
        """What ``forward`` takes of a processed prompt."""
        return ["input_ids", "attention_mask", "pixel_values", "num_images", "num_frames"]
