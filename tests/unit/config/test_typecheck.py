from dataclasses import fields

import pytest

from flamingo_ds.config import load_recipe
from flamingo_ds.config.schema import DatasetConfig, RunConfig, TrainConfig


def names(of: type) -> str:
    return ", ".join(field.name for field in fields(of))


@pytest.mark.parametrize(
    ("override", "key", "value", "suggestion"),
    [
        ("trian.max_steps=3", "trian", {"max_steps": 3}, "did you mean train?"),
        ("train.max_step=3", "train.max_step", 3, "did you mean train.max_steps?"),
        (
            "data.datasets.pairs.batchsize=3",
            "data.datasets.pairs.batchsize",
            3,
            "did you mean data.datasets.pairs.batch_size?",
        ),
        # The right name in the wrong place.
        ("max_steps=3", "max_steps", 3, "did you mean train.max_steps?"),
        ("train.learning_rate=1", "train.learning_rate", 1, "did you mean train.optimizer.learning_rate?"),
        (
            "data.batch_size=3",
            "data.batch_size",
            3,
            "did you mean data.datasets.NAME.batch_size or probe.datasets.NAME.batch_size?",
        ),
        # Nothing alike: what there is.
        ("xyzzy=3", "xyzzy", 3, f"a recipe has: {names(RunConfig)}"),
        ("train.xyzzy=3", "train.xyzzy", 3, f"train has: {names(TrainConfig)}"),
        ("model.freeze=[{glob: a}]", "model.freeze[0].glob", "a", "model.freeze[0] has: pattern, trainable"),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(load, error_of, override, key, value, suggestion):
    assert str(error_of(load, override)) == f"{key} = {value!r}: expected a known key (command line); {suggestion}"


@pytest.mark.parametrize(
    ("override", "value", "expected"),
    [
        ("train.max_steps=many", "many", "an integer"),
        ("train.max_steps=1.5", 1.5, "an integer"),
        ("train.max_steps=true", True, "an integer"),
        ("train.max_steps=null", None, "an integer"),
        ("train.max_steps.x=3", {"x": 3}, "an integer"),
        ("train.optimizer.learning_rate=fast", "fast", "a number"),
        ("train.optimizer.betas=[0.9]", [0.9], "a list of 2 values"),
        ("train.optimizer.betas=0.9", 0.9, "a list of 2 values"),
        ("train.precision=fp16", "fp16", "one of: bf16, fp32"),
        ("train=3", 3, f"a mapping with the keys {names(TrainConfig)}"),
        ("data.datasets=null", None, "a mapping of names"),
        ("data.datasets.pairs=3", 3, f"a mapping with the keys {names(DatasetConfig)}"),
        ("data.datasets.pairs.format=video", "video", "one of: interleaved, image_text, video_text"),
        ("model.language_model.trust_remote_code=maybe", "maybe", "true or false"),
        ("model.freeze=3", 3, "a list"),
        ("model.freeze[0].pattern=x", {"0": {"pattern": "x"}}, "a list"),
        ("run_dir=[a]", ["a"], "a text"),
    ],
)
def test_a_wrong_type_is_answered_with_the_right_one(load, error_of, override, value, expected):
    key = override.partition("=")[0].replace("[0].pattern", "").removesuffix(".x")
    assert str(error_of(load, override)) == f"{key} = {value!r}: expected {expected} (command line)"


def test_a_wrong_entry_of_a_list_is_named_by_its_place(load, error_of):
    error = error_of(load, "train.optimizer.betas=[0.9, high]")
    assert str(error) == "train.optimizer.betas[1] = 'high': expected a number (command line)"


def test_a_file_is_named_as_the_origin(recipe_file, error_of):
    recipe_file.write_text("train: {max_steps: many}")
    error = error_of(load_recipe, str(recipe_file))
    assert str(error) == f"train.max_steps = 'many': expected an integer (recipe {recipe_file})"


def test_the_file_is_blamed_even_where_an_override_would_hide_its_mistake(recipe_file, error_of):
    recipe_file.write_text("train: {max_steps: many}")
    error = error_of(load_recipe, str(recipe_file), ["train.max_steps=3"])
    assert error.value == "many"


def test_a_dataset_name_that_is_a_number_is_refused(recipe_file, error_of):
    recipe_file.write_text("data: {datasets: {1: {format: image_text}}}")
    assert (
        str(error_of(load_recipe, str(recipe_file)))
        == f"data.datasets = 1: expected names that are texts (recipe {recipe_file})"
    )
