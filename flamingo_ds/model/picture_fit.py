"""Another way to make pictures square than the vision encoder's image processor has.

The picture that comes out has the size that the processor wants, so that its own resizing and cutting change nothing.
"""

from typing import Any

from PIL import Image


def fit_picture(image: Image.Image, fit: str, processor: Any) -> Image.Image:
    """An RGB picture at the processor's size.

    Args:
        image: of any size.
        fit: ``pad`` with the mean colour around it (paper, appendix A.3), ``crop`` the middle, or ``squash``.
        processor: its size, filter and mean are taken.
    """
    height, width = target_size(processor)
    resample = Image.Resampling(int(processor.resample))
    if fit == "squash":
        return image.resize((width, height), resample)
    if fit == "crop":
        short = min(image.size)
        side = max(height, width)
        image = image.resize((side * image.width // short, side * image.height // short), resample)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))
    inner = padded_size(image.width, image.height, width, height)
    canvas = Image.new("RGB", (width, height), tuple(round(255 * value) for value in processor.image_mean))
    canvas.paste(image.resize(inner, resample), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas


def target_size(processor: Any) -> tuple[int, int]:
    """Height and width of what a processor gives."""
    size = processor.crop_size if getattr(processor, "do_center_crop", False) else processor.size
    found = {"shortest_edge": size} if isinstance(size, int) else dict(size)
    if side := found.get("shortest_edge"):
        return int(side), int(side)
    return int(found["height"]), int(found["width"])


def padded_size(width: int, height: int, most_width: int, most_height: int) -> tuple[int, int]:
    """Width and height of a picture that is as large as it may be."""
    scale = min(most_width / width, most_height / height)
    return max(1, round(width * scale)), max(1, round(height * scale))
