from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from flamingo_ds.config import DatasetConfig
from flamingo_ds.config.schema import Fit, SampleFormat
from flamingo_ds.data import SequenceRules, ShardDataset
from flamingo_ds.data.bad_samples import BadSampleLog
from flamingo_ds.data.decoder import Decoder
from flamingo_ds.data.documents import reader_of
from flamingo_ds.data.image_transform import ImageTransform
from flamingo_ds.data.packing import Packing
from flamingo_ds.data.shards import Patience, expand_shards
from flamingo_ds.data.stream import SampleStream
from flamingo_ds.data.workers import DecodePool

# "<image>" as text is three words, "<EOC>" too; the special ones come behind, as they do in a real tokenizer.
WORDS = ["<unk>", "<pad>", "<s>", "</s>", "a", "red", "blue", "cat", "dog", "<", ">", "image", "EOC", "-"]
VOCABULARY = {word: index for index, word in enumerate([*WORDS, *map(str, range(300))])}


def tokenizer_of(
    template: str = "<s> $A", special: bool = True, extra: tuple[str, ...] = ("<image>", "<EOC>")
) -> PreTrainedTokenizerFast:
    """A real tokenizer that puts ``template`` around a text and knows ``<image>`` and ``<EOC>``."""
    backend = Tokenizer(WordLevel(VOCABULARY, unk_token="<unk>"))
    backend.pre_tokenizer = Whitespace()
    backend.post_processor = TemplateProcessing(
        single=template, special_tokens=[(word, VOCABULARY[word]) for word in ("<s>", "</s>")]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.add_tokens(list(extra), special_tokens=special)
    return tokenizer


# 255 times a value from 0 to 1 is the red channel again: a test sees which picture it was.
TRANSFORM = ImageTransform(2, 2, 2, Fit.squash, 3, (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
NO_PATIENCE = Patience(retries=0, wait_s=0.0, stall_s=5.0)


def rules_of(
    max_tokens: int = 64, max_images: int = 8, template: str = "<s> $A", special: bool = True, **switches: Any
) -> SequenceRules:
    words = tokenizer_of(template, special)
    image, eoc = words.convert_tokens_to_ids(["<image>", "<EOC>"])
    return SequenceRules(words, image, eoc, max_tokens, max_images, **switches)


def dataset_of(
    shards: str,
    kind: SampleFormat = SampleFormat.image_text,
    rank: int = 0,
    world_size: int = 1,
    max_bad_share: float = 0.5,
    log: Path | None = None,
    buffer: int = 4,
    name: str = "pairs",
    pool: DecodePool | None = None,
    packing: Packing | None = None,
    switches: dict[str, Any] | None = None,
    patience: Patience = NO_PATIENCE,
    **config: Any,
) -> ShardDataset:
    """A dataset as the recipe's would be, with this folder's tokenizer and transform."""
    found = DatasetConfig(kind, shards, batch_size=4, **config)
    pool = pool or DecodePool()
    pool.register(name, Decoder(reader_of(found), rules_of(**(switches or {})), TRANSFORM))
    paths = expand_shards(f"data.datasets.{name}.shards", shards)
    stream = SampleStream(paths, rank, world_size, 7, buffer, patience)
    dataset = ShardDataset(name, stream, pool, BadSampleLog(name, max_bad_share, log), packing, ahead=8)
    dataset.check_start(patience)
    return dataset


@pytest.fixture
def make_rules() -> Callable[..., SequenceRules]:
    return rules_of


@pytest.fixture
def make_dataset() -> Callable[..., ShardDataset]:
    return dataset_of
