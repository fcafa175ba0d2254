"""Write the 1,797 handwritten digits of scikit-learn as webdataset shards.

OUT/pairs-{train,validation,test}-NNN.tar hold one image and its caption a sample, OUT/pages-train-NNN.tar hold
interleaved pages of two to four images. No image is in two splits. ``cls`` members hold the digit, for scoring only.
"""

import argparse
import io
import json
import random
import sys
from pathlib import Path

import numpy
import webdataset
from PIL import Image
from sklearn.datasets import load_digits

sys.path.insert(0, str(Path(__file__).parents[1]))
from demo.captions import caption

SPLITS = {"train": 1297, "validation": 200, "test": 300}
SAMPLES_PER_SHARD = 400
PAGES = 1000


def main() -> int:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the shards")
    parser.add_argument("--seed", type=int, default=0, help="of splits and wording")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(options.seed)
    digits = load_digits()
    order = list(range(len(digits.target)))
    rng.shuffle(order)
    for split, count in SPLITS.items():
        members, order = order[:count], order[count:]
        samples = [(png(digits.images[index]), int(digits.target[index])) for index in members]
        written = write(options.out, f"pairs-{split}", [pair(sample, rng) for sample in samples])
        if split == "train":
            written += write(options.out, "pages-train", [page(samples, rng) for _ in range(PAGES)])
        print(f"{split}: {count} images, {written} shards")
    return 0


def png(pixels: numpy.ndarray) -> bytes:
    """An 8 x 8 image of values 0 to 16 as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray((pixels / 16 * 255).round().astype(numpy.uint8)).save(stream, "png")
    return stream.getvalue()


def pair(sample: tuple[bytes, int], rng: random.Random) -> dict[str, bytes]:
    """An image and its caption."""
    image, digit = sample
    return {"png": image, "txt": caption(digit, rng).encode(), "cls": str(digit).encode()}


def page(samples: list[tuple[bytes, int]], rng: random.Random) -> dict[str, bytes]:
    """Two to four images, each followed by its caption, as one page of text and images in order."""
    chosen = rng.sample(samples, rng.randint(2, 4))
    texts: list[str | None] = []
    images: list[int | None] = []
    for number, (_, digit) in enumerate(chosen):
        texts += [None, caption(digit, rng)]
        images += [number, None]
    content = json.dumps({"texts": texts, "images": images}).encode()
    return {"json": content} | {f"{number}.png": image for number, (image, _) in enumerate(chosen)}


def write(out: Path, name: str, samples: list[dict[str, bytes]]) -> int:
    """Cut samples into tars; returns how many."""
    starts = range(0, len(samples), SAMPLES_PER_SHARD)
    for shard, start in enumerate(starts):
        with webdataset.TarWriter(str(out / f"{name}-{shard:03d}.tar")) as tar:
            for number, sample in enumerate(samples[start : start + SAMPLES_PER_SHARD], start):
                tar.write({"__key__": f"{name}-{number:05d}", **sample})
    return len(starts)


if __name__ == "__main__":
    sys.exit(main())
