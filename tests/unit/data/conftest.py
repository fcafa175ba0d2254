from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from flamingo_ds.config import DatasetConfig
from flamingo_ds.config.schema import SampleFormat
from flamingo_ds.data import SequenceRules, ShardDataset

# "<image>" as text is three words, "<EOC>" too; the special ones come behind, as they do in a real tokenizer.
WORDS = ["<unk>", "<pad>", "<s>", "</s>", "a", "red", "blue", "cat", "dog", "<", ">", "image", "EOC", "-"]
VOCABULARY = {word: index for index, word in enumerate([*WORDS, *map(str, range(300))])}


@pytest.fixture
def make_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    """A real tokenizer that puts ``template`` around a text and knows ``<image>`` and ``<EOC>``."""

    def make(template: str = "<s> $A", special: bool = True) -> PreTrainedTokenizerFast:
        backend = Tokenizer(WordLevel(VOCABULARY, unk_token="<unk>"))
        backend.pre_tokenizer = Whitespace()
        backend.post_processor = TemplateProcessing(
            single=template, special_tokens=[(word, VOCABULARY[word]) for word in ("<s>", "</s>")]
        )
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>"
        )
        tokenizer.add_tokens(["<image>", "<EOC>"], special_tokens=special)
        return tokenizer

    return make


def red_channel(image: Image.Image) -> torch.Tensor:
    """A transform that lets a test see which image it was: (3, 2, 2), filled with its red channel."""
    return torch.full((3, 2, 2), float(image.getpixel((0, 0))[0]))


@pytest.fixture
def make_rules(make_tokenizer: Any) -> Callable[..., SequenceRules]:
    def make(max_tokens: int = 64, max_images: int = 8, **tokenizer: Any) -> SequenceRules:
        words = make_tokenizer(**tokenizer)
        image, eoc = words.convert_tokens_to_ids(["<image>", "<EOC>"])
        return SequenceRules(words, red_channel, image, eoc, max_tokens, max_images)

    return make


@pytest.fixture
def make_dataset(make_rules: Any) -> Callable[..., ShardDataset]:
    def make(
        shards: str,
        kind: SampleFormat = SampleFormat.image_text,
        rank: int = 0,
        world_size: int = 1,
        max_bad_share: float = 0.5,
        log: Path | None = None,
        buffer: int = 4,
        name: str = "pairs",
    ) -> ShardDataset:
        config = DatasetConfig(kind, shards, batch_size=4, shuffle_buffer=buffer)
        return ShardDataset(name, config, make_rules(), rank, world_size, 7, max_bad_share, log)

    return make
