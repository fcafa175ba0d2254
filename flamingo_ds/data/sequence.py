"""A document as tokens: where ``<image>`` and ``<EOC>`` stand, what is predicted, which image a token belongs to.

A page of an image, a text, an image and a text, N = 2 (paper, section 2.4 and appendix A.3.2)::

    tokens     <bos> <image>  a  seven <EOC> <image>  a  two  <EOC>
    labels       .      .     a  seven <EOC>    .     a  two  <EOC>
    media_ids    0      1     1    1     1      2     2   2     2

``<EOC>`` ends the text before each image and the whole page. Nothing ever predicts ``<image>``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from ..batch import IGNORED_LABEL
from .bad_samples import BadSample
from .documents import Document


@dataclass
class TokenSequence:
    """One training sequence before padding; ``images`` are (C, H, W) each."""

    input_ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    media_ids: list[int] = field(default_factory=list)
    images: list[torch.Tensor] = field(default_factory=list)

    def append(self, token: int, label: int, media: int) -> None:
        """One more token."""
        self.input_ids.append(token)
        self.labels.append(label)
        self.media_ids.append(media)


@dataclass(frozen=True)
class SequenceRules:
    """How documents become sequences.

    Attributes:
        tokenizer: a transformers tokenizer.
        transform: an RGB image to (C, H, W), normalised for the vision encoder.
        image_token_id, eoc_token_id: of ``<image>`` and ``<EOC>``.
        max_tokens: L; what is longer is cut.
        max_images: N; the page ends before image N + 1.
    """

    tokenizer: Any
    transform: Callable[[Image.Image], torch.Tensor]
    image_token_id: int
    eoc_token_id: int
    max_tokens: int
    max_images: int

    def __call__(self, document: Document) -> TokenSequence:
        """The sequence of a document.

        Raises:
            BadSample: nothing is left to predict, or a text that would become a special token.
        """
        sequence = TokenSequence()
        for token in self._prefix():
            sequence.append(token, IGNORED_LABEL, 0)
        start = len(sequence.input_ids)
        images: list[Image.Image] = []
        for part in document:
            if isinstance(part, str):
                for token in self._encode(part):
                    sequence.append(token, token, len(images))
                continue
            if len(images) == self.max_images:
                break
            if len(sequence.input_ids) > start:
                sequence.append(self.eoc_token_id, self.eoc_token_id, len(images))
            images.append(part)
            sequence.append(self.image_token_id, IGNORED_LABEL, len(images))
        sequence.append(self.eoc_token_id, self.eoc_token_id, len(images))
        return self._cut(sequence, images)

    def _prefix(self) -> list[int]:
        """What the tokenizer itself puts before a text (often <bos>): a prompt will start with the same."""
        return [token for token in self.tokenizer("")["input_ids"] if token != self.tokenizer.eos_token_id]

    def _encode(self, text: str) -> list[int]:
        # split_special_tokens: a caption that holds the text "<image>" must not become an image.
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if self.image_token_id in encoded or self.eoc_token_id in encoded:
            raise BadSample("special_token", "this tokenizer makes a special token of the text <image> or <EOC>")
        return list(encoded)

    def _cut(self, sequence: TokenSequence, images: list[Image.Image]) -> TokenSequence:
        kept = slice(0, self.max_tokens)
        sequence = TokenSequence(sequence.input_ids[kept], sequence.labels[kept], sequence.media_ids[kept])
        if all(label == IGNORED_LABEL for label in sequence.labels[1:]):
            raise BadSample("no_target", f"no token to predict within {self.max_tokens} tokens")
        named = max(sequence.media_ids)
        sequence.images.extend(self.transform(image) for image in images[:named])
        return sequence
