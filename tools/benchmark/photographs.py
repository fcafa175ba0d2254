"""JPEGs to measure with: parts of scikit-learn's two photographs, at sizes and qualities as the web has them."""

import io
import random

from PIL import Image
from sklearn.datasets import load_sample_images


def photographs(count: int, seed: int = 0) -> list[bytes]:
    """So many different JPEGs; sides of 400 to 900 pixels, about 70 KB each.

    Args:
        count: how many.
        seed: of what is cut out.
    """
    rng = random.Random(seed)
    pictures = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    files = []
    for number in range(count):
        picture = pictures[number % len(pictures)]
        width, height = rng.randint(320, picture.width), rng.randint(260, picture.height)
        left, top = rng.randint(0, picture.width - width), rng.randint(0, picture.height - height)
        scale = rng.uniform(1.2, 1.6)
        cut = picture.crop((left, top, left + width, top + height))
        file = io.BytesIO()
        cut.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC).save(
            file, "JPEG", quality=rng.choice((75, 85, 90, 95))
        )
        files.append(file.getvalue())
    return files


def captions(count: int, tokens: tuple[int, int] = (12, 20), seed: int = 0) -> list[str]:
    """So many captions of so many words of one token each: ALIGN's are of 12.4 tokens, LTIP's of 20.5 (paper)."""
    rng = random.Random(seed)
    return [" ".join(rng.choice("abcdefgh") for _ in range(rng.randint(*tokens))) for _ in range(count)]
