"""Interleaved pages: ``KEY.json`` beside the page's images. Three layouts, told apart by the keys of the json.

plain    ``{"texts": ["a dog", null, "a cat"], "images": [null, 0, null]}``: at each place one of the two is null, and
         the number n of an image is that of its member ``KEY.n.jpg`` (png, webp, ...).
OBELICS  the same with an address instead of the number; the page's n-th address (from 0) is member ``KEY.n.jpg``.
MMC4     ``{"text_list": [...], "image_info": [{"matched_text_index": 3, "matched_sim": 0.31, ...}]}``: an image stands
         before its sentence. Its bytes are in ``image_base64``, or in member ``KEY.NAME`` with its ``image_name``, or,
         of the n-th entry, in ``KEY.n.jpg``.

Images that cannot be used are left out of their page; a page that has none left is a bad sample.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from .bad_samples import BadSample
from .documents import Document, decode_json, find_image, require_encodable
from .pictures import Picture, PictureRules
from .shards import RawSample

PARAGRAPHS = "\n\n"
SENTENCES = " "


@dataclass(frozen=True)
class PageReader:
    """Pages of all three layouts.

    Attributes:
        rules: which pictures may be used.
        min_similarity: of an MMC4 image to its sentence; None: any.
        keep_without_images: give pages of text alone too.
    """

    rules: PictureRules
    min_similarity: float | None = None
    keep_without_images: bool = False

    def __call__(self, sample: RawSample) -> Document:
        """Read one sample.

        Raises:
            BadSample: a page without text or without a usable image, or of no known layout.
        """
        page = decode_json(sample.members.get("json"))
        document = self._read_mmc4(page, sample) if "text_list" in page else self._read_lists(page, sample)
        document.require_text()
        if not document.media() and not self.keep_without_images:
            kind = document.left_out[0] if document.left_out else "no_image"
            raise BadSample(kind, f"no usable image on the page; left out: {', '.join(document.left_out) or 'none'}")
        return document

    def _read_lists(self, page: dict[str, Any], sample: RawSample) -> Document:
        texts, images = page.get("texts"), page.get("images")
        if not isinstance(texts, list) or not isinstance(images, list) or len(texts) != len(images):
            raise BadSample("broken_json", "neither texts and images of one length nor text_list and image_info")
        document = Document([], PARAGRAPHS)
        addresses = 0
        for text, image in zip(texts, images, strict=True):
            if isinstance(text, str) and image is None:
                _add_text(document, text)
            elif text is None and type(image) is int:
                self._add_image(document, find_image(sample, str(image)))
            elif text is None and isinstance(image, str):
                self._add_image(document, find_image(sample, str(addresses)))
                addresses += 1
            else:
                expected = "neither one text nor one image number"
                raise BadSample("broken_json", f"{expected}: text {text!r}, image {image!r}"[:200])
        return document

    def _read_mmc4(self, page: dict[str, Any], sample: RawSample) -> Document:
        sentences, infos = page["text_list"], page.get("image_info", [])
        if not isinstance(sentences, list) or not all(isinstance(sentence, str) for sentence in sentences):
            raise BadSample("broken_json", "text_list is no list of texts")
        if not isinstance(infos, list) or not all(isinstance(info, dict) for info in infos):
            raise BadSample("broken_json", "image_info is no list of objects")
        before: dict[int, list[int]] = {}
        for number, info in enumerate(infos):
            index = info.get("matched_text_index")
            if type(index) is not int or not 0 <= index < len(sentences):
                raise BadSample("broken_json", f"matched_text_index {index!r} of {len(sentences)} sentences"[:200])
            before.setdefault(index, []).append(number)
        document = Document([], SENTENCES)
        for index, sentence in enumerate(sentences):
            for number in before.get(index, ()):
                self._add_mmc4_image(document, infos[number], number, sample)
            _add_text(document, sentence)
        return document

    def _add_mmc4_image(self, document: Document, info: dict[str, Any], number: int, sample: RawSample) -> None:
        similarity = info.get("matched_sim")
        if self.min_similarity is not None and (
            not isinstance(similarity, int | float) or similarity < self.min_similarity
        ):
            document.left_out.append("too_dissimilar")
            return
        if isinstance(encoded := info.get("image_base64"), str):
            try:
                self._add_image(document, Picture(base64.b64decode(encoded, validate=True)))
            except binascii.Error:
                document.left_out.append("unreadable_image")
            return
        name = str(info.get("image_name", "")).lower()
        content = sample.members.get(name)
        self._add_image(document, find_image(sample, str(number)) if content is None else Picture(content))

    def _add_image(self, document: Document, picture: Picture | None) -> None:
        if picture is None:
            document.left_out.append("missing_pair")
            return
        try:
            picture.check(self.rules)
        except BadSample as bad:
            document.left_out.append(bad.kind)
        else:
            document.parts.append(picture)


def _add_text(document: Document, text: str) -> None:
    if text.strip():
        document.parts.append(require_encodable(text))
