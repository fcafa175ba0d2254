"""How the demo's captions are worded, and reading the digit back out of one."""

import random

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = (
    "a handwritten {}",
    "the digit {}",
    "a {} written by hand",
    "this is a {}",
    "someone wrote a {} here",
    "a small picture of a {}",
)


def caption(digit: int, rng: random.Random) -> str:
    """One of the wordings."""
    return rng.choice(TEMPLATES).format(WORDS[digit])


def digit_of(text: str) -> int | None:
    """The one digit that a caption names; None if it names none or several."""
    named = {WORDS.index(word) for word in text.split() if word in WORDS}
    return named.pop() if len(named) == 1 else None
