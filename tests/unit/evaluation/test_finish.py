from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from flamingo_ds.data.documents import IMAGE_SUFFIXES as TRAINED_IMAGES
from flamingo_ds.data.videos import VIDEO_SUFFIXES as TRAINED_VIDEOS
from flamingo_ds.evaluation.choosing import choose
from flamingo_ds.evaluation.task import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Answering, Sample, Task, is_video
from flamingo_ds.evaluation.tasks.finish import finish


def samples_of(count, options=("x",), name="s"):
    """Without media, so that no file is needed."""
    return [Sample(f"{name}{n}", (), "?", (options[n % len(options)],)) for n in range(count)]


def task_of(support, options=(), queries=None):
    answering = Answering.close_ended if options else Answering.open_ended
    queries = queries or samples_of(1, options or ("x",), "q")
    return Task("a task", answering, support, queries, ("accuracy",), options=options)


PLACE = Path("place")


@pytest.mark.parametrize(("limit", "expected"), [(None, 2048), (10, 10), (5000, 3000)])
def test_the_support_set_is_limited_as_in_the_paper_or_as_asked(limit, expected):
    task = finish(task_of(samples_of(3000)), PLACE, limit)
    assert len(task.support) == len({sample.key for sample in task.support}) == expected
    assert task == finish(task_of(samples_of(3000)), PLACE, limit)
    if limit == 10:
        assert task.support != samples_of(10)  # at random, not the first ones
    assert task.skipped == {}


def test_of_classes_there_are_as_many_samples_each():
    options = tuple(f"class {n}" for n in range(100))
    rare = samples_of(20, ("class 7",), "rare")
    common = [sample for sample in samples_of(9000, options) if sample.answers[0] != "class 7"]
    counts = Counter(sample.answers[0] for sample in finish(task_of(common + rare, options), PLACE, None).support)
    # 32 x 100, less what class 7 lacks, which goes to others.
    assert counts.pop("class 7") == 20
    assert set(counts.values()) == {32, 33}
    assert sum(counts.values()) == 3180
    few = finish(task_of(common, options), PLACE, 50).support
    assert set(Counter(sample.answers[0] for sample in few).values()) == {1}


def test_a_task_that_chooses_its_examples_keeps_all_of_them():
    task = replace(task_of(samples_of(3000)), episodes={"q0": ("s2999",)})
    assert finish(task, PLACE, 10).support == samples_of(3000)


def test_what_cannot_be_used_does_not_make_the_support_set_smaller_than_its_limit(write, tmp_path):
    there = write("there.png")
    support = [Sample(f"s{n}", (there if n % 2 else tmp_path / "gone.png",), answers=("x",)) for n in range(100)]
    task = finish(task_of(support), tmp_path, 40)
    assert len(task.support) == 40
    assert {path for sample in task.support for path in sample.media} == {there}
    assert 20 < task.skipped["support_missing_image"] <= 50


def test_a_folder_that_is_not_there_is_missing_media_not_an_error(tmp_path):
    queries = [Sample("1", (tmp_path / "no" / "1.png",), answers=("x",)), *samples_of(1)]
    assert finish(task_of([], queries=queries), tmp_path, None).skipped == {"missing_image": 1}


def test_a_querys_picture_under_another_name_is_no_example(write, error_of, tmp_path):
    same, other, longer = write("a.png", b"1234"), write("b.png", b"4321"), write("c.png", b"12345")
    query = write("q.png", b"1234")
    support = [Sample(path.name, (path,), answers=("x",)) for path in (same, other, longer)]
    task = finish(task_of(support, queries=[Sample("q", (query,), answers=("x",))]), tmp_path, None)
    assert [bool(sample.media_keys) for sample in (*task.support, *task.queries)] == [True, False, False, True]
    assert sorted(choose(task, 2, seed=0)["q"]) == [1, 2]
    assert "at most 2" in error_of(choose, task, 3, seed=0)


def test_the_same_frames_in_two_folders_are_the_same_video(write, tmp_path):
    for folder, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        write(f"{folder}/0001.jpg", content)
        write(f"{folder}/0002.jpg", b"3")
    support = [Sample(name, (tmp_path / name,), answers=("x",)) for name in "bc"]
    task = finish(task_of(support, queries=[Sample("a", (tmp_path / "a",), answers=("x",))]), tmp_path, None)
    assert choose(task, 1, seed=0)["a"] == [1]


def test_media_keys_of_the_task_stay_beside_those_of_bytes(write, tmp_path):
    one, two = write("a.png", b"1"), write("b.png", b"1")
    task = task_of(
        [Sample("s", (one,), answers=("x",), media_keys=("mine",))], queries=[Sample("q", (two,), answers=("x",))]
    )
    finished = finish(task, tmp_path, None)
    assert finished.support[0].media_keys == ("mine", *finished.queries[0].media_keys)


def test_suffixes_are_those_of_training():
    assert (IMAGE_SUFFIXES, VIDEO_SUFFIXES) == (TRAINED_IMAGES, TRAINED_VIDEOS)


@pytest.mark.parametrize(
    ("name", "expected"), [("a.JPEG", False), ("a.png", False), ("a.mp4", True), ("frames", True), ("clip.1_2", True)]
)
def test_a_video_is_told_by_its_name(name, expected):
    assert is_video(Path("folder.jpg") / name) is expected
