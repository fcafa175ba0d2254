"""From a recipe to its mixture."""

import pytest

from flamingo_ds.config import ConfigError, DataConfig, DatasetConfig, RunConfig, plan_batches
from flamingo_ds.config.schema import MediaRule, ModelConfig, SampleFormat
from flamingo_ds.data import Place, Tokens, build_mixture
from flamingo_ds.data.build import build_decoder

from .conftest import TRANSFORM, tokenizer_of
from .making import write_shards
from .test_sequence import EOC, IMG

TOKENS = Tokens(tokenizer_of(), IMG, EOC)


@pytest.mark.parametrize(
    ("given", "rule", "p_next"),
    [
        (None, MediaRule.last, 0.0),
        (None, MediaRule.next, 1.0),
        (None, MediaRule.all_previous, 0.0),
        (0.5, MediaRule.last, 0.5),
        (0.0, MediaRule.next, 0.0),
    ],
)
def test_texts_belong_where_the_model_s_rule_says_unless_the_recipe_says_otherwise(given, rule, p_next):
    config = DatasetConfig(SampleFormat.interleaved, "", batch_size=1, p_next=given)
    assert build_decoder(config, TOKENS, TRANSFORM, rule).rules.p_next == p_next


def test_every_switch_reaches_its_rule():
    config = DatasetConfig(
        SampleFormat.interleaved,
        "",
        batch_size=1,
        max_tokens=77,
        max_images=3,
        random_window=True,
        eoc_before_image=False,
        eoc_at_end=False,
        leading_space=0.25,
        min_image_side=64,
        max_image_aspect=3.0,
        min_similarity=0.2,
        keep_pages_without_images=True,
        flip=0.5,
        colour_jitter=0.1,
    )
    decoder = build_decoder(config, TOKENS, TRANSFORM, MediaRule.last)
    rules, reader = decoder.rules, decoder.read
    assert (rules.max_tokens, rules.max_images, rules.random_window, rules.leading_space) == (77, 3, True, 0.25)
    assert (rules.eoc_before_image, rules.eoc_at_end) == (False, False)
    assert (reader.rules.min_side, reader.rules.max_aspect, reader.min_similarity) == (64, 3.0, 0.2)
    assert reader.keep_without_images
    assert decoder.keep_without_images
    assert (decoder.augmentation.flip, decoder.augmentation.colour_jitter) == (0.5, 0.1)


def recipe(shards, **data):
    pairs = DatasetConfig(SampleFormat.image_text, shards, batch_size=4, shuffle_buffer=3)
    packed = DatasetConfig(SampleFormat.image_text, shards, batch_size=2, pack=True, max_tokens=20)
    return RunConfig("run", 7, ModelConfig(), DataConfig({"pairs": pairs, "packed": packed}, **data))


def test_a_mixture_of_a_recipe(tmp_path):
    write_shards(tmp_path, [9, 9])
    config = recipe(str(tmp_path), skip=[[1, 2]])
    mixture = build_mixture(config, plan_batches(config, 2), TOKENS, TRANSFORM, Place(1, 2), tmp_path / "bad.jsonl")
    step = next(mixture)
    assert mixture.data_step == 3
    assert [(micro.dataset, len(micro.batch)) for micro in step] == [("pairs", 2), ("packed", 1)]
    assert step[1].batch.num_images.tolist() == [3]
    assert not (tmp_path / "bad.jsonl").exists()


def test_shards_that_are_not_there_are_named_by_their_key(tmp_path):
    config = recipe(str(tmp_path / "none.tar"))
    with pytest.raises(ConfigError, match=r"data.datasets.pairs.shards = .*none.tar': expected a tar file"):
        build_mixture(config, plan_batches(config, 1), TOKENS, TRANSFORM, Place(), None)
