from pathlib import Path

import pytest

from flamingo_ds.config import ConfigError, load_recipe, to_yaml
from flamingo_ds.config.freeze_presets import freeze_rows
from flamingo_ds.config.load import recipe_names
from flamingo_ds.config.schema import (
    DatasetConfig,
    MediaRule,
    Precision,
    SampleFormat,
    ScheduleKind,
    Style,
    VisionFeatures,
)


def test_a_recipe_is_filled_up_with_the_defaults_of_the_schema(load):
    config = load()
    assert config.train.max_steps == 10
    assert config.train.precision is Precision.bf16
    assert config.train.optimizer.betas == (0.9, 0.999)
    assert config.data.datasets["pairs"] == DatasetConfig(SampleFormat.image_text, "pairs.tar", 8)
    assert [row.pattern for row in freeze_rows(config.model) if row.trainable] == [
        "resampler.*",
        "gated_cross_attention.*",
        "new_token_*",
    ]


def test_overrides_are_typed_and_the_last_one_wins(load):
    config = load(
        "train.max_steps=5",
        "train.optimizer.learning_rate=1e-3",
        "train.optimizer.betas=[0.8, 0.95]",
        "train.schedule.kind=cosine",
        "data.datasets.pages.micro_batch_size=null",
        "train.max_steps=7",
    )
    assert config.train.max_steps == 7
    assert config.train.optimizer.learning_rate == 0.001
    assert config.train.optimizer.betas == (0.8, 0.95)
    assert config.train.schedule.kind is ScheduleKind.cosine
    assert config.data.datasets["pages"].micro_batch_size is None


def test_an_override_can_add_a_dataset_behind_the_others(load):
    config = load("data.datasets.more={format: interleaved, shards: 'more-{0..3}.tar', batch_size: 2}")
    assert list(config.data.datasets) == ["pairs", "pages", "more"]
    assert config.data.datasets["more"].shards == "more-{0..3}.tar"


def test_an_override_may_hold_an_equals_sign(load):
    assert load("run_dir=runs/lr=1e-3").run_dir == "runs/lr=1e-3"


def test_an_override_replaces_the_freeze_table_as_a_whole(load):
    config = load("model.freeze=[{pattern: 'resampler.*', trainable: true}]")
    assert [(row.pattern, row.trainable) for row in config.model.freeze] == [("resampler.*", True)]


def test_interpolations_are_filled_in(load):
    config = load("run_dir=runs/${seed}", "data.datasets.pairs.shards=${run_dir}/pairs.tar", "seed=3")
    assert config.data.datasets["pairs"].shards == "runs/3/pairs.tar"


# YAML 1.1 reads a bare off as false, and off is the very word that the documentation tells to write.
@pytest.mark.parametrize(("given", "read"), [("off", "off"), ("'off'", "off"), ("block", "block"), ("2", "2")])
def test_activation_checkpointing_takes_words_and_numbers(load, given, read):
    assert load(f"parallel.activation_checkpointing={given}").parallel.activation_checkpointing == read


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_loads(name):
    assert load_recipe(name).data.datasets


@pytest.mark.parametrize("name", recipe_names())
def test_the_resolved_yaml_of_a_run_folder_gives_the_same_recipe(name, tmp_path: Path):
    config = load_recipe(name, ["seed=3", "run_dir=runs/${seed}"])
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    assert "${" not in path.read_text()
    assert load_recipe(str(path)) == config


def test_an_unknown_recipe_is_answered_with_the_known_ones(error_of):
    error = error_of(load_recipe, "dmeo")
    assert str(error) == f"--recipe = 'dmeo': expected a YAML file or one of: {', '.join(recipe_names())}"


def test_a_missing_recipe_file(error_of):
    error = error_of(load_recipe, "no/such.yaml")
    assert str(error) == "--recipe = 'no/such.yaml': expected the path of a YAML file; there is no such file"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"train: [", "valid YAML; did not find expected node content (line 2, column 1)"),
        (b"train:\n\tmax_steps: 3", "valid YAML; found character that cannot start any token (line 2, column 1)"),
        (b"seed: 1\nseed: 2", "valid YAML; found duplicate key seed (line 2, column 1)"),
        (b"- 1", "a YAML mapping of keys to values"),
        (b"3", "a YAML mapping of keys to values"),
        (b"\xff", "a text in UTF-8; 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path, error_of, content, expected):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    assert str(error_of(load_recipe, str(path))) == f"--recipe = {str(path)!r}: expected {expected}"


def test_python_objects_in_yaml_are_not_built(tmp_path, error_of):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"seed: !!python/object/apply:os.mkdir ['{tmp_path}/made']")
    assert "could not determine a constructor" in error_of(load_recipe, str(path)).expected
    assert not (tmp_path / "made").exists()


def test_a_missing_key_is_named(recipe_file, error_of):
    recipe_file.write_text(recipe_file.read_text().replace("train: {max_steps: 10}", ""))
    error = error_of(load_recipe, str(recipe_file))
    assert str(error) == f"train.max_steps = None: expected a value; recipe {recipe_file} gives none"


def test_question_marks_in_a_file_are_a_missing_key(recipe_file, error_of):
    # The sign for "must be given by whoever runs this recipe".
    recipe_file.write_text(recipe_file.read_text().replace("max_steps: 10", "max_steps: '???'"))
    assert error_of(load_recipe, str(recipe_file)).key == "train.max_steps"
    assert load_recipe(str(recipe_file), ["train.max_steps=3"]).train.max_steps == 3


def test_question_marks_may_stand_for_a_whole_section(recipe_file, error_of):
    recipe_file.write_text("run_dir: runs/test\ndata: {datasets: '???'}\n")
    error = error_of(load_recipe, str(recipe_file))
    assert str(error) == f"data.datasets = None: expected a value; recipe {recipe_file} gives none"


def test_a_missing_key_of_a_dataset_is_named(load, error_of):
    error = error_of(load, "data.datasets.more={format: image_text, batch_size: 1}")
    assert (error.key, error.value) == ("data.datasets.more.shards", None)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("run_dir=${nope}", "Interpolation key 'nope' not found"),
        ("run_dir=${run_dir}", "Recursive interpolation detected"),
        ("run_dir=${oc.env:NO_SUCH_VARIABLE}", "Environment variable 'NO_SUCH_VARIABLE' not found"),
        ("train.max_steps=${run_dir}", "could not be converted to Integer"),
    ],
)
def test_an_interpolation_that_cannot_be_filled_in(load, error_of, override, expected):
    error = error_of(load, override)
    key, _, value = override.partition("=")
    assert (error.key, error.value) == (key, value)
    assert expected in error.expected


@pytest.mark.parametrize("override", ["train.max_steps", "=3", ""])
def test_an_override_without_key_or_value(load, error_of, override):
    error = error_of(load, override)
    assert str(error) == f"override = {override!r}: expected key=value with a dotted key, such as train.max_steps=100"


def test_an_override_that_is_no_yaml(load, error_of):
    error = error_of(load, "train.optimizer.betas=[0.9")
    assert (error.key, error.value) == ("train.optimizer.betas", "[0.9")
    assert error.expected.startswith("a YAML value; did not find expected ',' or ']'")


def test_choices_are_enums_and_architectures_are_open(load):
    config = load(
        "model.style=idefics",
        "model.media_rule=next",
        "model.freeze_preset=fine_tuning",
        "model.vision_encoder.features=grid",
        "model.language_model.architecture={model_type: gpt_neox, hidden_size: 64}",
    )
    assert (config.model.style, config.model.media_rule) == (Style.idefics, MediaRule.next)
    assert config.model.vision_encoder.features is VisionFeatures.grid
    assert config.model.language_model.architecture == {"model_type": "gpt_neox", "hidden_size": 64}
    assert "vision_model.*" in [row.pattern for row in freeze_rows(config.model) if row.trainable]


def test_the_recipe_s_own_freeze_rows_come_behind_the_preset_s(load):
    rows = freeze_rows(load("model.freeze=[{pattern: 'resampler.*', trainable: false}]").model)
    assert [row.pattern for row in rows][-2:] == ["new_token_*", "resampler.*"]
    assert not rows[-1].trainable


@pytest.mark.parametrize("key", ["style", "media_rule", "freeze_preset", "vision_encoder.features"])
def test_a_choice_that_is_none(load, key):
    with pytest.raises(ConfigError, match=f"model.{key} = 'otter': expected one of: "):
        load(f"model.{key}=otter")


def test_a_dataset_of_the_recipe_is_taken_out(load, error_of):
    mine = "data.datasets.mine={format: image_text, shards: mine.tar, batch_size: 2}"
    config = load("data.datasets.pages=null", "data.datasets.pairs=null", mine)
    assert list(config.data.datasets) == ["mine"]
    error = error_of(load, "data.datasets.other=null")
    assert (error.key, error.expected) == ("data.datasets.other", "a dataset of the recipe: pairs, pages")
    assert error_of(load, "data.datasets.pages=null", "data.datasets.pairs=null").expected == "at least one dataset"


def test_the_command_line_takes_a_probe_s_dataset_out(load, error_of):
    held = "probe.datasets={held: {format: image_text, shards: held.tar, batch_size: 4}}"
    assert load(held).probe.datasets.keys() == {"held"}
    assert error_of(load, "probe.datasets.held=null").key == "probe.datasets.held"
    assert load_recipe("demo", ["probe.datasets.digits=null", "probe.every=0", "probe.shots=[]"]).probe.datasets == {}
