"""Train the proof's stand-in for a pretrained vision encoder: an open_clip model like the demo's, on images with noise.

It sees the training split of all ten digits the right way up, as a CLIP of the web has seen most things, and what they
are called in English. OUT is an open_clip folder. ``--steps 0`` leaves it random, for an ablation.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

import numpy
import open_clip
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from demo.captions import caption
from demo.train_backbones import (
    CLIP_BATCH,
    CLIP_CONFIG,
    CLIP_RATE,
    adamw,
    contrastive_loss,
    pixels,
    save_clip,
    shifted,
    zero_shot_accuracy,
)

from few_shot.digits import Split, as_bytes, load_splits

CONFIG = CLIP_CONFIG | {"vision_cfg": CLIP_CONFIG["vision_cfg"] | {"pool_type": "avg"}}
"""Its embedding is the mean over all patches: with a class token little of what sets digits apart is left in them."""
NOISE = 1.0
"""On half of the images, in units of -1 to 1 and at most: as much as on the noisy pages."""


def main() -> int:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    began = time.process_time()
    splits = load_splits(options.seed)
    model = open_clip.CLIP(**CONFIG)
    tokenizer = open_clip.SimpleTokenizer(context_length=CONFIG["text_cfg"]["context_length"])
    if options.steps:
        train(model, tokenizer, splits["train"], options.steps)
    save_clip(model, CONFIG, options.out)
    captioned = [(image, caption(digit, random.Random(0))) for image, digit in pictures(splits["validation"])]
    accuracy = round(zero_shot_accuracy(model.eval(), tokenizer, captioned), 4)
    seconds = round(time.process_time() - began, 1)
    about = {"zero_shot_accuracy": accuracy, "steps": options.steps, "seconds": seconds}
    (options.out / "accuracy.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    print(f"vision encoder: {about}")
    return 0


def train(model: open_clip.CLIP, tokenizer: open_clip.SimpleTokenizer, split: Split, steps: int) -> None:
    """As the demo's, with noise and new captions at each step."""
    rng = random.Random(torch.initial_seed())
    samples = pictures(split)
    images, digits = pixels([image for image, _ in samples]), torch.tensor([digit for _, digit in samples])
    optimizer, schedule = adamw(model, CLIP_RATE, steps)
    for _ in range(steps):
        chosen = torch.randint(len(images), (CLIP_BATCH,))
        texts = tokenizer([caption(digit, rng) for digit in digits[chosen].tolist()])
        contrastive_loss(model, noisy(shifted(images[chosen])), texts, digits[chosen]).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def pictures(split: Split) -> list[tuple[Image.Image, int]]:
    """Images with their digits."""
    return [(picture(image), digit) for digit, images in split.by_digit.items() for image in images]


def picture(image: numpy.ndarray) -> Image.Image:
    """Of an array (8, 8) of 0 to 1."""
    return Image.fromarray(as_bytes(image)).convert("RGB")


def noisy(images: torch.Tensor) -> torch.Tensor:
    """Normal noise on half of the images (N, 3, 8, 8), the same on all channels, each with a strength of its own."""
    strength = NOISE * torch.rand(len(images), 1, 1, 1) * (torch.rand(len(images), 1, 1, 1) < 0.5)
    return (images + strength * torch.randn(len(images), 1, 8, 8)).clamp(-1, 1)


if __name__ == "__main__":
    sys.exit(main())
