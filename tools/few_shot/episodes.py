"""An episode: some images under invented names, and one more image to name.

Classes of one episode are digits under one transform, so none looks like another. All its images are different ones:
the query is never among the examples.
"""

import random
from dataclasses import dataclass

import numpy

from few_shot.digits import TRANSFORMS, Split, as_bytes, with_noise
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
        shots: examples of each class.
        noise: deviation of the noise on every image.
        transforms: of which one is drawn for all images of an episode.
        for_evaluation: names that are kept for it.
    """

    ways: int
    shots: int
    noise: float = 0.0
    transforms: tuple[str, ...] = ("as it is",)
    for_evaluation: bool = True

    def draw(self, split: Split, seed: object) -> Episode:
        """One episode; the same for the same seed."""
        rng = random.Random(str(seed))
        noise = numpy.random.default_rng(rng.getrandbits(63))
        transform = TRANSFORMS[rng.choice(self.transforms)]
        classes = rng.sample(sorted(split.by_digit), self.ways)
        names = invent_names(self.ways, rng, self.for_evaluation)
        asked = rng.randrange(self.ways)
        examples = []
        query = None
        for number, digit in enumerate(classes):
            images = split.by_digit[digit]
            chosen = rng.sample(range(len(images)), self.shots + (number == asked))
            shown = [as_bytes(with_noise(transform(images[index]), self.noise, noise)) for index in chosen]
            if number == asked:
                query = shown.pop()
            examples += [(image, names[number]) for image in shown]
        rng.shuffle(examples)
        assert query is not None
        return Episode(examples, query, names[asked], names)
