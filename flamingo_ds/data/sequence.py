"""A document as tokens: where ``<image>`` and ``<EOC>`` stand, what is predicted, which image a token belongs to.

A page of an image, a text, an image and a text (paper, section 2.4 and appendix A.3.2)::

    tokens             <bos> <image>  a  seven <EOC> <image>  a  two  <EOC>
    labels               .      .     a  seven <EOC>    .     a  two  <EOC>
    media_ids            0      1     1    1     1      2     2   2     2      texts belong to the image before them
    media_ids            1      1     2    2     2      2     0   0     0      to the image after them (p_next)

``<EOC>`` ends the text before each image and the whole page. Nothing ever predicts ``<image>``.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..batch import IGNORED_LABEL
from .bad_samples import BadSample
from .documents import Document
from .pictures import Picture
from .videos import Clip


@dataclass
class TokenSequence:
    """One training sequence before padding.

    Attributes:
        input_ids, labels, media_ids: as in :class:`FlamingoBatch`.
        media: what stands at each ``<image>``: first undecoded, then an array (F, H, W, 3) uint8.
        prefix: how many tokens the tokenizer puts before any text.
        left_out: kinds of pictures that its page goes without.
    """

    input_ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    media_ids: list[int] = field(default_factory=list)
    media: list[Any] = field(default_factory=list)
    prefix: int = 0
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SequenceRules:
    """How documents become sequences; each of the paper's rules is a switch.

    Attributes:
        tokenizer: a transformers tokenizer.
        image_token_id, eoc_token_id: of ``<image>`` and ``<EOC>``.
        max_tokens: L; what is longer is cut.
        max_images: N; the page ends before image N + 1.
        random_window: of a longer page take a random window that holds an image, not the beginning.
        p_next: share of pages whose texts belong to the image after them.
        eoc_before_image: but for an image that begins its page.
        eoc_at_end: of a page, not of one that is cut.
        leading_space: share of documents whose texts get a space before them.
    """

    tokenizer: Any
    image_token_id: int
    eoc_token_id: int
    max_tokens: int
    max_images: int
    random_window: bool = False
    p_next: float = 0.0
    eoc_before_image: bool = True
    eoc_at_end: bool = True
    leading_space: float = 0.0

    def __call__(self, document: Document, rng: random.Random) -> TokenSequence:
        """The sequence of a document.

        Raises:
            BadSample: nothing is left to predict, or a text that would become a special token.
        """
        belongs_to_next = rng.random() < self.p_next
        space = " " if rng.random() < self.leading_space else ""
        prefix = self._prefix
        body = self._body(document, space)
        room = self.max_tokens - len(prefix)
        start = self._window(body, room, rng) if self.random_window else 0
        media = document.media()[body[:start].count(self.image_token_id) :]
        ids = self._until_too_many_images(body[start : start + max(room, 0)])
        owners = self._owners(ids, belongs_to_next)
        sequence = TokenSequence(
            input_ids=prefix + ids,
            labels=[IGNORED_LABEL] * len(prefix)
            + [IGNORED_LABEL if id_ == self.image_token_id else id_ for id_ in ids],
            # What stands before the text belongs where its first token belongs.
            media_ids=[owners[0] if belongs_to_next and owners else 0] * len(prefix) + owners,
            media=media[: ids.count(self.image_token_id)],
            prefix=len(prefix),
            left_out=document.left_out,
        )
        if all(label == IGNORED_LABEL for label in sequence.labels[1:]):
            raise BadSample("no_target", f"no token to predict within {self.max_tokens} tokens")
        return sequence

    def _body(self, document: Document, space: str) -> list[int]:
        """All tokens of the whole document."""
        ids: list[int] = []
        for part in _joined(document):
            if isinstance(part, str):
                ids += self._encode(space + part)
                continue
            if ids and self.eoc_before_image:
                ids.append(self.eoc_token_id)
            ids.append(self.image_token_id)
        return [*ids, self.eoc_token_id] if self.eoc_at_end else ids

    def _window(self, body: list[int], room: int, rng: random.Random) -> int:
        """Where a random window begins: anywhere, as long as an image is in it."""
        if len(body) <= room or room <= 0:
            return 0
        last = len(body) - room
        starts: set[int] = set()
        for place, token in enumerate(body):
            if token == self.image_token_id:
                starts.update(range(max(0, place - room + 1), min(last, place) + 1))
        return rng.choice(sorted(starts)) if starts else rng.randint(0, last)

    def _until_too_many_images(self, ids: list[int]) -> list[int]:
        places = [place for place, token in enumerate(ids) if token == self.image_token_id]
        return ids[: places[self.max_images]] if len(places) > self.max_images else ids

    def _owners(self, ids: list[int], belongs_to_next: bool) -> list[int]:
        """1-based image of each token, 0 for none."""
        total, seen, owners = ids.count(self.image_token_id), 0, []
        for token in ids:
            seen += token == self.image_token_id
            ahead = seen + (token != self.image_token_id)
            owners.append((ahead if ahead <= total else 0) if belongs_to_next else seen)
        return owners

    @cached_property
    def _prefix(self) -> list[int]:
        """What the tokenizer itself puts before a text (often <bos>): a prompt will start with the same."""
        return [token for token in self.tokenizer("")["input_ids"] if token != self.tokenizer.eos_token_id]

    def _encode(self, text: str) -> list[int]:
        # split_special_tokens: a caption that holds the text "<image>" must not become an image.
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if self.image_token_id in encoded or self.eoc_token_id in encoded:
            raise BadSample("special_token", "this tokenizer makes a special token of the text <image> or <EOC>")
        return list(encoded)


def _joined(document: Document) -> Iterable[str | Picture | Clip]:
    """Texts that follow each other as one."""
    texts: list[str] = []
    for part in document.parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        if texts:
            yield document.joint.join(texts)
        texts = []
        yield part
    if texts:
        yield document.joint.join(texts)
