"""The 1,797 handwritten digits of scikit-learn in three splits, turned, and made hard to see."""

import random
from dataclasses import dataclass

import numpy
from sklearn.datasets import load_digits

SPLITS = {"train": 1197, "validation": 250, "test": 350}
HELD_OUT = 3
"""So many digits are never shown to what trains around the backbones."""
STILL = (0, 0)
TRANSFORMS = {
    "": (0, False, False, STILL),
    "turned left": (1, False, False, STILL),
    "upside down": (2, False, False, STILL),
    "turned right": (3, False, False, STILL),
    "in a mirror": (0, True, False, STILL),
    "in white": (0, False, True, STILL),
    "in white, turned left": (1, False, True, STILL),
    "in white, upside down": (2, False, True, STILL),
    "split across": (0, False, False, (4, 0)),
    "split down": (0, False, False, (0, 4)),
}
"""Quarter turns, whether transposed, whether negative, how far rolled. Each makes ten classes more of the ten digits;
the first leaves them as they are."""


def transformed(image: numpy.ndarray, name: str) -> numpy.ndarray:
    """An image (8, 8) of 0 to 1 under one of :data:`TRANSFORMS`."""
    turns, transpose, negative, shift = TRANSFORMS[name]
    image = numpy.roll(numpy.rot90(image, turns), shift, (0, 1))
    image = image.T if transpose else image
    return 1 - image if negative else image


@dataclass(frozen=True)
class Split:
    """Images of one split by their digit: arrays (N, 8, 8) of 0 to 1."""

    by_digit: dict[int, numpy.ndarray]

    def only(self, digits: list[int]) -> "Split":
        """Without the others."""
        return Split({digit: self.by_digit[digit] for digit in digits})


def load_splits(seed: int) -> dict[str, Split]:
    """By name; no image is in two of them."""
    digits = load_digits()
    order = list(range(len(digits.target)))
    random.Random(f"splits {seed}").shuffle(order)
    splits, start = {}, 0
    for name, count in SPLITS.items():
        members = order[start : start + count]
        labels = digits.target[members]
        images = digits.images[members] / 16
        splits[name] = Split({digit: images[labels == digit] for digit in range(10)})
        start += count
    return splits


def held_out_digits(seed: int) -> list[int]:
    """Three digits that the adapters never see, others for each seed."""
    return sorted(random.Random(f"held out {seed}").sample(range(10), HELD_OUT))


def with_noise(image: numpy.ndarray, deviation: float, rng: numpy.random.Generator) -> numpy.ndarray:
    """Normal noise on every pixel, cut at black and white."""
    if not deviation:
        return image
    return numpy.clip(image + rng.normal(0.0, deviation, image.shape), 0.0, 1.0)


def as_bytes(image: numpy.ndarray) -> numpy.ndarray:
    """0 to 1 as uint8."""
    return (image * 255).round().astype(numpy.uint8)
