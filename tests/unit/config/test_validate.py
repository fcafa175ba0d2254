import pytest

from flamingo_ds.config import ConfigError
from flamingo_ds.config.validate import AT_LEAST_ZERO, POSITIVE, POSITIVE_OF_DATASET, checkpoint_interval


@pytest.mark.parametrize("key", [*POSITIVE, *(f"data.datasets.pages.{key}" for key in POSITIVE_OF_DATASET)])
@pytest.mark.parametrize("value", ["0", "-1"])
def test_sizes_and_rates_are_positive(load, error_of, key, value):
    error = error_of(load, f"{key}={value}")
    assert (error.key, float(error.value), error.expected) == (key, float(value), "a number above 0")


@pytest.mark.parametrize("key", AT_LEAST_ZERO)
def test_counts_may_be_zero_but_not_less(load, error_of, key):
    load(f"{key}=0")
    error = error_of(load, f"{key}=-1")
    assert (error.key, error.expected) == (key, "a number of at least 0")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.optimizer.learning_rate=nan", "a number above 0"),
        ("train.optimizer.learning_rate=inf", "a number above 0"),
        ("train.optimizer.betas=[0.9, 1.0]", "a number from 0 to below 1"),
        ("model.gated_cross_attention.initial_gate=nan", "a finite number"),
        ("model.resampler.max_frames=-1", "a number of at least 0"),
        ("model.resampler.width=0", "a number above 0"),
        ("model.vision_encoder.image_size=0", "a number above 0"),
        ("data.max_bad_share=1.5", "a share from 0 to 1"),
        ("data.max_bad_share=nan", "a share from 0 to 1"),
        # One token has nothing to predict.
        ("data.datasets.pairs.max_tokens=1", "a number above 1"),
        ("data.datasets.pairs.weight=0", "a number above 0"),
        ("data.datasets.pairs.flip=1.5", "a share from 0 to 1"),
        ("data.datasets.pairs.leading_space=nan", "a share from 0 to 1"),
        ("data.datasets.pages.p_next=-0.1", "a share from 0 to 1"),
        ("data.datasets.pairs.colour_jitter=1.1", "at most 1"),
        ("data.datasets.pairs.colour_jitter=-1", "a number of at least 0"),
        ("data.datasets.pairs.min_image_side=-1", "a number of at least 0"),
        ("data.datasets.pairs.max_image_aspect=0.5", "a number of at least 1"),
        ("data.datasets.pairs.p_next=0.5", "format: interleaved, not image_text"),
        ("data.datasets.pages.pack=true", "format: image_text, not interleaved"),
        ("data.datasets.pairs.frames=4", "format: video_text, not image_text"),
        ("data.skip=[[3]]", "[FIRST, LAST] with 1 <= FIRST <= LAST, data steps to pass over"),
        ("data.skip=[[1, 2], [5, 4]]", "[FIRST, LAST] with 1 <= FIRST <= LAST, data steps to pass over"),
        ("data.skip=[[0, 4]]", "[FIRST, LAST] with 1 <= FIRST <= LAST, data steps to pass over"),
        ("parallel.activation_checkpointing=blocks", "off, block, or an integer of at least 1"),
        # Names go into keys of metrics and of this very configuration.
        (
            "data.datasets={'a b': {format: image_text, shards: a.tar, batch_size: 1}}",
            "names of letters, digits, - and _",
        ),
        (
            "data.datasets={'a.b': {format: image_text, shards: a.tar, batch_size: 1}}",
            "names of letters, digits, - and _",
        ),
    ],
)
def test_values_that_a_type_cannot_refuse(load, error_of, override, expected):
    error = error_of(load, override)
    assert error.key.startswith(override.partition("=")[0])
    assert error.expected == expected


PROBE = "probe.datasets={held: {format: image_text, shards: held.tar, batch_size: 4}}"


@pytest.mark.parametrize(
    ("override", "key", "expected"),
    [
        ("probe.datasets.held.batch_size=0", "probe.datasets.held.batch_size", "a number above 0"),
        ("probe.datasets.held.max_tokens=1", "probe.datasets.held.max_tokens", "a number above 1"),
        ("probe.datasets.held.p_next=0.5", "probe.datasets.held.p_next", "format: interleaved, not image_text"),
        (
            "probe.datasets.held.weight=2",
            "probe.datasets.held.weight",
            "this key left out: a probe measures single sequences, each dataset for itself",
        ),
        (
            "probe.datasets.held.pack=true",
            "probe.datasets.held.pack",
            "this key left out: a probe measures single sequences, each dataset for itself",
        ),
        (
            "probe.datasets.held.batch_size=1",
            "probe.datasets.held.batch_size",
            "at least 2 sequences a probe, so that images can be shuffled",
        ),
        ("probe.shots=[4]", "probe.shots", "numbers from 0 to 3: a probe of held has 4 sequences"),
        ("probe.shots=[-1]", "probe.shots", "numbers from 0 to 3: a probe of held has 4 sequences"),
        ("probe.shots=[1, 1]", "probe.shots", "different numbers"),
        (
            "probe={shots: [1], datasets: {held: {format: interleaved}}}",
            "probe.shots",
            "a dataset of pairs (image_text or video_text) among probe.datasets: examples are made of pairs",
        ),
    ],
)
def test_what_a_probe_cannot_be(load, error_of, override, key, expected):
    error = error_of(load, PROBE, "probe.every=5", override)
    assert (error.key, error.expected) == (key, expected)


def test_a_probe_needs_data_of_its_own(load, error_of):
    error = error_of(load, "probe.every=5")
    assert (error.key, error.expected) == (
        "probe.datasets",
        "at least one dataset of validation shards; or probe.every=0",
    )
    assert load(PROBE, "probe.every=5", "probe.batches=2", "probe.shots=[0, 7]").probe.shots == [0, 7]


def test_shards_of_frozen_weights_need_stages(load, error_of):
    error = error_of(load, "parallel.shard_frozen=true")
    assert (error.key, error.value) == ("parallel.shard_frozen", True)
    assert load("parallel.shard_frozen=true", "parallel.pipeline_stages=2").parallel.shard_frozen


def test_every_nth_checkpoint_needs_a_last_one(load, error_of):
    assert error_of(load, "train.keep_every=5").key == "train.keep_every"
    assert load("train.keep_every=5", "train.keep_last=1").train.keep_every == 5


def test_optional_numbers_may_be_left_out(load):
    config = load("model.gated_cross_attention.heads=null", "data.datasets.pages.micro_batch_size=null")
    assert config.model.gated_cross_attention.heads is None


def test_a_recipe_without_datasets_is_refused(recipe_file, load, error_of):
    head, _, tail = recipe_file.read_text().partition("  datasets:")
    recipe_file.write_text(f"{head}  datasets: {{}}\n{tail[tail.index('train:') :]}")
    assert str(error_of(load)) == "data.datasets = {}: expected at least one dataset"


@pytest.mark.parametrize(("setting", "every"), [("off", 0), ("block", 1), ("1", 1), ("12", 12)])
def test_activation_checkpointing_as_a_number(setting, every):
    assert checkpoint_interval(setting) == every


@pytest.mark.parametrize("setting", ["", "0", "-1", "1.5", "²", "every 2"])
def test_activation_checkpointing_that_means_nothing(setting):
    with pytest.raises(ConfigError, match="expected off, block, or an integer of at least 1"):
        checkpoint_interval(setting)


def test_packing_needs_room_for_more_images(load, error_of):
    error = error_of(load, "data.datasets.pairs.pack=true", "data.datasets.pairs.max_images=1")
    assert error.expected == "max_images above 1: each packed caption brings its image"


def test_texts_cannot_belong_to_the_next_image_where_all_before_are_seen(load, error_of):
    error = error_of(load, "data.datasets.pages.p_next=0.5", "model.media_rule=all_previous")
    assert (error.key, error.expected) == ("data.datasets.pages.p_next", "0 where model.media_rule is all_previous")


def test_a_gate_that_is_not_there_has_no_value(load, error_of):
    error = error_of(load, "model.gated_cross_attention.gate=none", "model.gated_cross_attention.initial_gate=0.1")
    assert (error.key, error.value) == ("model.gated_cross_attention.initial_gate", 0.1)


def test_a_pipeline_s_steps_are_all_alike(load, error_of):
    assert load("data.mixture=in_turn").data.mixture.value == "in_turn"
    error = error_of(load, "data.mixture=in_turn", "parallel.pipeline_stages=2")
    assert (error.key, error.value) == ("data.mixture", "in_turn")
