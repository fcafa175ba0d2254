"""What a shard's sample says: text and images in reading order, whatever its file layout.

image_text: ``KEY.txt`` and ``KEY.jpg`` (png, webp), as img2dataset writes them.
interleaved: ``KEY.json`` with two lists of equal length, ``texts`` and ``images``; at each place one is null and the
other holds a paragraph or the number of an image, which lies beside it as ``KEY.NUMBER.png`` (jpg, webp).
"""

import io
import json
import warnings
from typing import Any

from PIL import Image

from .bad_samples import BadSample
from .shards import RawSample

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
# By content, whatever the suffix says; PIL knows more, and would start Ghostscript for a picture from the web.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")

Document = list[str | Image.Image]


def read_image_text(sample: RawSample) -> Document:
    """``[image, text]``.

    Raises:
        BadSample: no image, no text, or unreadable ones.
    """
    text = _decode_text(sample.get("txt")).strip()
    if not text:
        raise BadSample("no_text", "no text in the .txt member")
    return [_find_image(sample, ""), text]


def read_interleaved(sample: RawSample) -> Document:
    """Texts and images in page order.

    Raises:
        BadSample: a page without images or without text, broken JSON, or a missing or unreadable image.
    """
    try:
        page = json.loads(_decode_text(sample.get("json")))
        places = list(zip(page["texts"], page["images"], strict=True))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadSample("broken_json", f"{type(error).__name__}: {error}") from error
    for text, image in places:
        _check_place(text, image)
    if all(image is None for _, image in places):
        raise BadSample("no_image", "the page names no image")
    if not any(text is not None and text.strip() for text, _ in places):
        raise BadSample("no_text", "the page has no text")
    return [text if image is None else _find_image(sample, f"{image}.") for text, image in places]


def _check_place(text: Any, image: Any) -> None:
    if not (isinstance(text, str) and image is None) and not (text is None and type(image) is int):
        raise BadSample("broken_json", f"neither one text nor one image number: text {text!r}, image {image!r}"[:200])
    try:
        str(text).encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can write half a surrogate pair, no tokenizer takes it
        raise BadSample("undecodable_text", str(error)) from error


def _decode_text(content: Any) -> str:
    if content is None:
        raise BadSample("missing_member", "the text or json member is missing")
    try:
        return bytes(content).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadSample("undecodable_text", str(error)) from error


def _find_image(sample: RawSample, prefix: str) -> Image.Image:
    for suffix in IMAGE_SUFFIXES:
        if (content := sample.get(prefix + suffix)) is not None:
            return _decode_image(content)
    raise BadSample("missing_member", f"no image member {prefix}{{{','.join(IMAGE_SUFFIXES)}}}")


def _decode_image(content: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Half of PIL's limit only warns; a training run has no use for such an image either.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(content), formats=IMAGE_FORMATS).convert("RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadSample("too_large_image", str(error)) from error
    except Exception as error:  # PIL's decoders raise almost anything on hostile bytes, differently in each version
        raise BadSample("unreadable_image", f"{type(error).__name__}: {error}") from error
