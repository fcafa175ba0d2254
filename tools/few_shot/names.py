"""Names that mean nothing: two syllables each, invented anew for every episode, and the tokenizer that reads them.

Names of training and of evaluation are different ones: no name that is asked for was ever seen by the language model or
by what trains around it.
"""

import random

from tokenizers import Regex, Tokenizer, decoders
from tokenizers.models import WordLevel
from tokenizers.normalizers import Replace
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

SYLLABLES = tuple(consonant + vowel for consonant in "bdgkm" for vowel in "aeiou")
KEYS = 40
"""Numbers from 0 on are the things that the language model's own texts name."""
SEPARATOR = ";"
HELD_BACK = 5
"""One name in so many is kept for evaluation."""


def is_held_back(first: int, second: int) -> bool:
    """Whether the name of these two syllables is for evaluation."""
    return (first + second) % HELD_BACK == 0


def invent_names(count: int, rng: random.Random, for_evaluation: bool) -> list[str]:
    """Different names, already in their first syllable."""
    names = []
    for first in rng.sample(range(len(SYLLABLES)), count):
        seconds = [second for second in range(len(SYLLABLES)) if is_held_back(first, second) == for_evaluation]
        names.append(SYLLABLES[first] + SYLLABLES[rng.choice(seconds)])
    return names


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a number, a syllable and ``;``; spaces are dropped.

    A syllable is one token wherever it stands. With tokens that begin names and others that end them the language model
    learned to copy any beginning, and never which.
    """
    words = ["<pad>", "<unk>", SEPARATOR, *map(str, range(KEYS)), *SYLLABLES]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = Replace(" ", "")
    tokenizer.pre_tokenizer = Split(Regex(f"{SEPARATOR}|[0-9]+|[a-z][aeiou]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")
