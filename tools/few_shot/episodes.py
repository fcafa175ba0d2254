"""An episode: some images under invented names, and one more image to name.

Classes of one episode are digits under one transform, so none looks like another. All its images are different ones:
the query is never among the examples.
"""

import random
from dataclasses import dataclass

import numpy

from few_shot.digits import TRANSFORMS, Split, as_bytes, transformed, with_noise
from few_shot.names import invent_names


@dataclass(frozen=True)
class Episode:
    """Images are (8, 8) uint8.

    Attributes:
        examples: with their names, in the prompt's order.
        query: what is asked.
        answer: its name.
        names: of all classes of the episode, among them the answer.
    """

    examples: list[tuple[numpy.ndarray, str]]
    query: numpy.ndarray
    answer: str
    names: list[str]


@dataclass(frozen=True)
class EpisodeRules:
    """How episodes are drawn.

    Attributes:
        ways: classes of an episode.
        shots: examples of all classes together.
        balanced: as many of each class; else each example's class is drawn, as a query's is, and some may have none.
        noise: deviation of the noise on every image.
        as_they_are: share of episodes that show digits as they are; the others are under one of the transforms.
        for_evaluation: names that are kept for it.
    """

    ways: int
    shots: int
    balanced: bool = True
    noise: float = 0.0
    as_they_are: float = 1.0
    for_evaluation: bool = True

    def draw(self, split: Split, seed: object) -> Episode:
        """One episode; the same for the same seed."""
        rng = random.Random(str(seed))
        noise = numpy.random.default_rng(rng.getrandbits(63))
        plain = rng.random() < self.as_they_are
        transforms = ["" if plain else rng.choice(list(TRANSFORMS)) for _ in range(self.ways)]
        digits = rng.sample(sorted(split.by_digit), self.ways)
        names = invent_names(self.ways, rng, self.for_evaluation)
        classes = [number % self.ways for number in range(self.shots)]
        if self.balanced:
            assert self.shots % self.ways == 0
            rng.shuffle(classes)
        else:
            classes = rng.choices(range(self.ways), k=self.shots)
        classes.append(rng.randrange(self.ways))
        # Each class's images in an order of their own, from which they are taken one after another: none comes twice.
        piles = [
            rng.sample(range(len(split.by_digit[digit])), classes.count(number)) for number, digit in enumerate(digits)
        ]
        images = [
            transformed(split.by_digit[digits[number]][piles[number].pop()], transforms[number]) for number in classes
        ]
        shown = [as_bytes(with_noise(image, self.noise, noise)) for image in images]
        told = [names[number] for number in classes]
        return Episode(list(zip(shown[:-1], told[:-1], strict=True)), shown[-1], told[-1], names)
