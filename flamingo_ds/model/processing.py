"""The processor: prompts with ``<image>`` in them and their images, to the tensors that the model takes."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import BatchFeature, ProcessorMixin

IMAGE_TOKEN = "<image>"
EOC_TOKEN = "<EOC>"

ImageRows = Sequence[Sequence[Image.Image]]


class FlamingoProcessor(ProcessorMixin):
    """An image processor and a tokenizer that knows ``<image>`` and ``<EOC>``.

    Example::

        inputs = processor(images=[[a, b]], text=["<image>a seven<EOC><image>"], return_tensors="pt")
    """

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self.image_token = IMAGE_TOKEN
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        self.eoc_token_id = tokenizer.convert_tokens_to_ids(EOC_TOKEN)

    def __call__(
        self,
        images: Image.Image | Sequence[Image.Image] | ImageRows | None = None,
        text: str | Sequence[str] | None = None,
        padding: bool | str = True,
        return_tensors: str = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Tokenise prompts and transform their images.

        Args:
            images: one image, a flat list dealt out in the order of the ``<image>`` tokens, or a list for each text.
            text: one prompt or several.
            padding: of the texts, on the tokenizer's padding side.
            return_tensors: ``pt``; the images come as torch tensors only.
            kwargs: the tokenizer's own.

        Returns:
            ``input_ids``, ``attention_mask`` (B, L), and with images ``pixel_values`` (B, T, F=1, C, H, W) and
            ``num_images`` (B,).

        Raises:
            ValueError: a text whose ``<image>`` tokens do not match its images; another return type.
        """
        if text is None:
            raise ValueError("text is None; expected one prompt or a list of prompts")
        if return_tensors != "pt":
            raise ValueError(f"return_tensors is {return_tensors!r}; expected 'pt'")
        texts = [text] if isinstance(text, str) else list(text)
        encoded = self.tokenizer(texts, padding=padding, return_tensors="pt", **kwargs)
        counts = (encoded["input_ids"] == self.image_token_id).sum(-1).tolist()
        rows = _deal(images, counts)
        data = dict(encoded)
        if rows is not None and any(rows):
            data["pixel_values"] = self._pixels(rows)
            data["num_images"] = torch.tensor([len(row) for row in rows])
        return BatchFeature(data, tensor_type="pt")

    def transform(self, image: Image.Image) -> torch.Tensor:
        """One image to (C, H, W), as in training."""
        return self.image_processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]

    def _pixels(self, rows: ImageRows) -> torch.Tensor:
        """Images of each text to (B, T, 1, C, H, W), short rows padded with zeros."""
        encoded = [torch.stack([self.transform(image) for image in row]) for row in rows if row]
        slots = max(len(row) for row in rows)
        padded = encoded[0].new_zeros(len(rows), slots, 1, *encoded[0].shape[1:])
        images = iter(encoded)
        for index, row in enumerate(rows):
            if row:
                padded[index, : len(row), 0] = next(images)
        return padded

    @property
    def model_input_names(self) -> list[str]:
        """What ``forward`` takes of a processed prompt."""
        return ["input_ids", "attention_mask", "pixel_values", "num_images"]


def _deal(images: Any, counts: list[int]) -> list[list[Image.Image]] | None:
    """Give each text its images; a flat list is dealt out by the number of ``<image>`` tokens."""
    if images is None or (isinstance(images, Sequence) and not images):
        rows: list[list[Image.Image]] = [[] for _ in counts]
    elif isinstance(images, Image.Image):
        rows = [[images]]
    elif isinstance(images[0], Image.Image):
        rest = list(images)
        rows = [[rest.pop(0) for _ in range(min(count, len(rest)))] for count in counts]
        if rest:
            raise ValueError(f"{len(images)} images for texts that name {counts}")
    else:
        rows = [list(row) for row in images]
    given = [len(row) for row in rows]
    if given != counts:
        raise ValueError(f"the texts name {counts} images with {IMAGE_TOKEN} but {given} were given")
    return rows
