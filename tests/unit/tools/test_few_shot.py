"""The proof's data, scoring and promises: what is asked for must be told nowhere but in the prompt."""

import copy
import random
import sys
from pathlib import Path

import numpy
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[3] / "tools"))

from few_shot.check import broken
from few_shot.digits import SPLITS, TRANSFORMS, Split, held_out_digits, load_splits, transformed
from few_shot.episodes import EpisodeRules
from few_shot.intervals import wilson
from few_shot.make_shards import page, rules
from few_shot.names import SYLLABLES, build_tokenizer, invent_names, is_held_back
from few_shot.report import gather
from few_shot.scoring import pixels_of, prompt_of
from few_shot.train_language_model import PER_PAIR, Texts
from few_shot.variants import VARIANTS

from flamingo_ds.config import load_recipe


@pytest.fixture(scope="module")
def splits():
    return load_splits(0)


def counted() -> Split:
    """Every image is of one grey, its own: digit 0 has 1 to 8 of 255, digit 1 has 9 to 16, ..."""
    return Split(
        {digit: numpy.stack([numpy.full((8, 8), (8 * digit + n + 1) / 255) for n in range(8)]) for digit in range(4)}
    )


def shown(episode) -> list[int]:
    return [int(image[0, 0]) for image in [*(image for image, _ in episode.examples), episode.query]]


def test_splits_share_no_image(splits):
    """The 1,797 images have 1,797 places; a few are equal in all pixels, which no split of places can help."""
    counts = {name: sum(len(images) for images in split.by_digit.values()) for name, split in splits.items()}
    assert counts == SPLITS
    seen = [{image.tobytes() for images in split.by_digit.values() for image in images} for split in splits.values()]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_each_seed_holds_out_digits_of_its_own():
    assert [len(held_out_digits(seed)) for seed in range(5)] == [3] * 5
    assert len({tuple(held_out_digits(seed)) for seed in range(5)}) > 1


@pytest.mark.parametrize("seed", range(20))
def test_no_image_is_shown_twice_and_the_query_is_no_example(seed):
    episode = EpisodeRules(ways=3, shots=12).draw(counted(), seed)
    grey = shown(episode)
    assert len(set(grey)) == len(grey) == 13


@pytest.mark.parametrize("seed", range(20))
def test_a_name_is_a_digit_s_for_this_episode_alone(seed):
    draws = [EpisodeRules(ways=3, shots=12).draw(counted(), f"{seed} {number}") for number in range(2)]
    for episode in draws:
        digits = {
            name: {
                (grey - 1) // 8 for grey, (_, of) in zip(shown(episode), episode.examples, strict=False) if of == name
            }
            for name in episode.names
        }
        assert all(len(one) == 1 for one in digits.values())
        assert digits[episode.answer] == {(shown(episode)[-1] - 1) // 8}
        assert len(set(map(str, digits.values()))) == 3
    assert draws[0].names != draws[1].names


def test_queries_fall_on_every_class_and_place():
    episodes = [EpisodeRules(ways=2, shots=2).draw(counted(), number) for number in range(400)]
    first = sum(episode.answer == episode.examples[0][1] for episode in episodes)
    assert 150 < first < 250  # five standard deviations around 200


def test_names_of_training_and_of_evaluation_are_different_ones():
    rng = random.Random(0)
    names = {wanted: {name for _ in range(500) for name in invent_names(5, rng, wanted)} for wanted in (True, False)}
    assert not names[True] & names[False]
    for wanted, some in names.items():
        assert len(some) > 50
        assert all(is_held_back(*(SYLLABLES.index(half) for half in (name[:2], name[2:]))) == wanted for name in some)
    assert len({name[:2] for name in invent_names(5, rng, True)}) == 5


def test_training_pages_have_training_names_and_no_held_out_digit(splits):
    train = splits["train"].only([0, 1, 2])
    held = {image.tobytes() for digit in range(3, 10) for image in splits["train"].by_digit[digit]}
    rng = random.Random(1)
    for number in range(30):
        drawn = rules(rng, 0.0)
        episode = EpisodeRules(min(drawn.ways, 3), 6, for_evaluation=drawn.for_evaluation).draw(train, number)
        assert not any(is_held_back(*(SYLLABLES.index(half) for half in (n[:2], n[2:]))) for n in episode.names)
        for image in [episode.query, *(image for image, _ in episode.examples)]:
            assert (image.astype(float) / 255 * 16).round().__truediv__(16).tobytes() not in held


def test_noise_changes_images_and_stays_in_range():
    clear, noisy = (EpisodeRules(2, 4, noise=noise).draw(counted(), 5) for noise in (0.0, 0.5))
    assert clear.names == noisy.names
    assert len(numpy.unique(clear.query)) == 1
    assert len(numpy.unique(noisy.query)) > 10


def test_transforms_are_all_different_and_the_first_changes_nothing():
    image = numpy.linspace(0, 1, 64).reshape(8, 8)
    changed = [transformed(image, transform) for transform in TRANSFORMS]
    assert (changed[0] == image).all()
    assert len({one.tobytes() for one in changed}) == len(TRANSFORMS) == 10
    assert {(one.shape, one.min(), one.max()) for one in changed} == {((8, 8), 0, 1)}


def test_examples_that_are_drawn_at_random_may_leave_a_class_out():
    episodes = [EpisodeRules(4, 4, balanced=False).draw(counted(), number) for number in range(200)]
    told = sum(any(name == one.answer for _, name in one.examples) for one in episodes)
    assert 110 < told < 163  # 1 - (3/4)^4 of 200 is 137, four standard deviations around it
    assert all(len(set(shown(one))) == 5 for one in episodes)


def test_a_page_has_every_image_before_its_name():
    episode = EpisodeRules(2, 4).draw(counted(), 3)
    content = page(episode)
    assert len([name for name in content if name.endswith(".png")]) == 5
    assert f'"{episode.answer}"]' in content["json"].decode()


def test_the_prompt_s_tokens():
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<EOC>"]})
    episode = EpisodeRules(2, 2).draw(counted(), 3)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(prompt_of(episode))["input_ids"])
    (_, first), (_, second) = episode.examples
    halves = [["<image>", name[:2], name[2:], "<EOC>"] for name in (first, second)]
    assert tokens == [*halves[0], *halves[1], "<image>"]
    alone = EpisodeRules(2, 0).draw(counted(), 3)
    assert prompt_of(alone) == f"{alone.names[0]}<EOC>{alone.names[1]}<EOC><image>"
    assert tokenizer.decode(tokenizer("17 boka; 4 dimu")["input_ids"]) == "17boka;4dimu"


def test_pixels_are_normalised_with_the_query_last():
    episode = EpisodeRules(2, 2).draw(counted(), 3)
    pixels = pixels_of([episode])
    assert pixels.shape == (1, 3, 1, 3, 8, 8)
    wanted = torch.tensor(shown(episode)) / 255 * 2 - 1
    assert torch.allclose(pixels[0, :, 0, 2, 5, 5], wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("for_evaluation", [True, False])
def test_the_language_model_is_asked_only_for_what_its_text_told(for_evaluation):
    torch.manual_seed(0)
    ids, labels = Texts(build_tokenizer(), for_evaluation).episodes(20, 8, 3, consistent=True)
    for text, wanted in zip(ids.view(20, 8, PER_PAIR).tolist(), labels.view(20, 8, PER_PAIR).tolist(), strict=True):
        told: dict[int, list[int]] = {}
        for (key, *name, _), label in zip(text, wanted, strict=True):
            assert label == [-100, *(name if key in told else [-100, -100]), -100]
            assert told.setdefault(key, name) == name
        assert len({tuple(name) for name in told.values()}) == len(told)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_a_recipe_that_differs_from_the_model(name):
    recipe = load_recipe("few-shot", [key.format(seed="runs/few-shot/seed-0") for key in VARIANTS[name]])
    assert (recipe == load_recipe("few-shot", [])) == (name == "model")
    assert recipe.train.max_steps == 250


def test_wilson_s_interval():
    """Of 8 of 10 by the formula: 0.4902 to 0.9433."""
    assert wilson(8, 10) == pytest.approx([0.4902, 0.9433], abs=1e-4)
    assert wilson(0, 10)[0] == pytest.approx(0, abs=1e-4)


def good_report() -> dict:
    def figure(accuracy, chance=0.5):
        return {
            "median": accuracy,
            "accuracy": accuracy,
            "interval": [accuracy - 0.02, accuracy + 0.02],
            "chance": chance,
        }

    return {
        "seeds": [0, 1, 2],
        "language_model": [{"text_accuracy": {"a": 0.99}} for _ in range(3)],
        "zero_shot": figure(0.51),
        "blank_2way_4_shot": figure(0.49),
        "two_way_4_shot": figure(0.97),
        "four_way_8_shot": figure(0.93),
        "held_out_2way_4_shot": figure(0.9),
        "graded_curve": [figure(accuracy) for accuracy in (0.6, 0.65, 0.7, 0.75, 0.8)],
    }


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda report: None, []),
        (lambda report: report.update(seeds=[0]), ["seeds"]),
        (lambda report: report["two_way_4_shot"].update(median=0.94), ["two_way_4_shot"]),
        (lambda report: report["zero_shot"].update(interval=[0.55, 0.6]), ["zero_shot"]),
        (lambda report: report["language_model"][0].update(text_accuracy={"a": 0.5}), ["language_model of seed 0"]),
        (lambda report: report["graded_curve"][2].update(accuracy=0.65), ["graded_curve"]),
        (lambda report: report["graded_curve"][0].update(accuracy=0.66, interval=[0.6, 0.9]), ["graded_curve"] * 3),
    ],
)
def test_a_promise_that_does_not_hold_is_named(change, names):
    report = copy.deepcopy(good_report())
    change(report)
    found = [what for what, _, _ in broken(report)]
    assert found == names


def test_figures_of_several_seeds():
    one = {"accuracy": 0.9, "episodes": 10, "free": 0.8, "chance": 0.5, "told": 1.0, "accuracy_where_told": 0.9}
    figure = gather([{"a": one}, {"a": one | {"accuracy": 0.7}}])["a"]
    assert (figure["per_seed"], figure["median"], figure["min"], figure["max"]) == ([0.9, 0.7], 0.8, 0.7, 0.9)
    assert (figure["accuracy"], figure["episodes"], figure["interval"]) == (0.8, 20, wilson(16, 20))
