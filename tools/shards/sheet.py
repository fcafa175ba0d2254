"""A picture of training sequences: their images as the vision encoder gets them, each token in its image's colour."""

from collections.abc import Sequence

import numpy
from PIL import Image, ImageDraw, ImageFont

from flamingo_ds.batch import IGNORED_LABEL
from flamingo_ds.data.decoder import Decoder
from flamingo_ds.data.sequence import TokenSequence

WIDTH, MARGIN, THUMBNAIL, LINE = 1200, 16, 128, 22
FRAME = 4
# Far apart, and readable on white; used again from the beginning by the ninth image.
COLOURS = ("#0b6bcb", "#c2410c", "#15803d", "#a21caf", "#b45309", "#0f766e", "#be123c", "#4338ca")
NO_IMAGE, INK = "#8a8a8a", "#222222"


def draw(shown: Sequence[tuple[str, TokenSequence]], decoder: Decoder) -> Image.Image:
    """One block a sequence: its key, its images in a row, its tokens.

    Args:
        shown: keys and sequences.
        decoder: for the tokenizer.
    """
    blocks = [_block(key, sequence, decoder) for key, sequence in shown]
    sheet = Image.new("RGB", (WIDTH, sum(block.height for block in blocks) + MARGIN), "white")
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    return sheet


def _block(key: str, sequence: TokenSequence, decoder: Decoder) -> Image.Image:
    font = ImageFont.load_default(15)
    strips = [_strip(media) for media in sequence.media]
    words = _words(sequence, decoder)
    rows = _rows([strip.width + 2 * FRAME for strip in strips])
    picture_height = (THUMBNAIL + 2 * FRAME + 6) * (1 + max((row for _, row in rows), default=-1))
    lines = _lines(words, font)
    height = MARGIN + LINE + picture_height + LINE * len(lines) + MARGIN
    block = Image.new("RGB", (WIDTH, height), "white")
    pen = ImageDraw.Draw(block)
    tokens, images = len(sequence.input_ids), len(sequence.media)
    pen.text((MARGIN, MARGIN), f"{key}: {tokens} tokens, {images} images", fill=INK, font=ImageFont.load_default(14))
    top = MARGIN + LINE
    for number, (strip, (left, row)) in enumerate(zip(strips, rows, strict=True)):
        y = top + row * (THUMBNAIL + 2 * FRAME + 6)
        pen.rectangle((left, y, left + strip.width + 2 * FRAME - 1, y + THUMBNAIL + 2 * FRAME - 1), _colour(number + 1))
        block.paste(strip, (left + FRAME, y + FRAME))
    for number, line in enumerate(lines):
        _write(pen, line, top + picture_height + number * LINE, font)
    return block


def _strip(media: numpy.ndarray) -> Image.Image:
    """(F, H, W, 3) uint8 as frames side by side, each of the thumbnail's height."""
    frames = [Image.fromarray(numpy.ascontiguousarray(frame)) for frame in media]
    width = max(1, THUMBNAIL * frames[0].width // frames[0].height)
    room = max(1, (WIDTH - 2 * MARGIN) // width)
    strip = Image.new("RGB", (width * min(len(frames), room), THUMBNAIL))
    for number, frame in enumerate(frames[:room]):
        strip.paste(frame.resize((width, THUMBNAIL)), (number * width, 0))
    return strip


def _words(sequence: TokenSequence, decoder: Decoder) -> list[tuple[str, int, bool]]:
    """Text of each token, its image, and whether it is predicted."""
    names = [decoder.rules.tokenizer.decode([token]) for token in sequence.input_ids]
    predicted = [label != IGNORED_LABEL for label in sequence.labels]
    return list(zip(names, sequence.media_ids, predicted, strict=True))


def _rows(widths: list[int]) -> list[tuple[int, int]]:
    """Left edge and row of each picture."""
    places, left, row = [], MARGIN, 0
    for width in widths:
        if left > MARGIN and left + width > WIDTH - MARGIN:
            left, row = MARGIN, row + 1
        places.append((left, row))
        left += width + 6
    return places


def _lines(words: list[tuple[str, int, bool]], font: ImageFont.FreeTypeFont) -> list[list[tuple[str, int, bool]]]:
    lines: list[list[tuple[str, int, bool]]] = [[]]
    left = float(MARGIN)
    for text, image, predicted in words:
        text = text.replace("\n", "\\n") or "·"
        width = font.getlength(text) + 5
        if lines[-1] and left + width > WIDTH - MARGIN:
            lines.append([])
            left = MARGIN
        lines[-1].append((text, image, predicted))
        left += width
    return lines


def _write(pen: ImageDraw.ImageDraw, line: list[tuple[str, int, bool]], top: int, font: ImageFont.FreeTypeFont) -> None:
    left = float(MARGIN)
    for text, image, predicted in line:
        pen.text((left, top), text, fill=_colour(image), font=font)
        width = font.getlength(text)
        if not predicted:
            pen.line((left, top + 19, left + width, top + 19), fill=_colour(image))
        left += width + 5


def _colour(image: int) -> str:
    return COLOURS[(image - 1) % len(COLOURS)] if image else NO_IMAGE
