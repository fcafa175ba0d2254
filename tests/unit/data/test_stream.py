import itertools
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_ds.data.segments import StreamPosition
from flamingo_ds.data.shards import Patience
from flamingo_ds.data.stream import SampleStream

from .making import write_shards

SIZES = [5, 0, 3, 7, 1]


@pytest.fixture(scope="module")
def shards():
    with tempfile.TemporaryDirectory() as folder:
        yield write_shards(Path(folder), SIZES)


def stream_of(shards, rank=0, world_size=1, buffer=3, seed=7):
    return SampleStream(shards, rank, world_size, seed, buffer, Patience(0, 0.0))


def read(shards, **arguments):
    """Samples and positions from the beginning."""
    return stream_of(shards, **arguments).read(StreamPosition())


def texts(samples, count):
    return [sample.members.get("txt", b"").decode() for sample, _ in itertools.islice(samples, count)]


def through_json(position):
    return json.loads(json.dumps(position.state_dict()))


def names_of(sizes):
    return sorted(f"{shard}-{index}" for shard, size in enumerate(sizes) for index in range(size))


def test_an_epoch_gives_every_sample_once_and_the_next_in_another_order(shards):
    samples = read(shards)
    first, second = texts(samples, sum(SIZES)), texts(samples, sum(SIZES))
    assert sorted(first) == sorted(second) == names_of(SIZES)
    assert first != second


def test_the_seed_decides_the_order(shards):
    first, again, other = (texts(read(shards, seed=seed), 16) for seed in (7, 7, 8))
    assert first == again != other


def test_samples_of_a_shard_are_shuffled_within_the_buffer(tmp_path):
    shards = write_shards(tmp_path, [40])
    order = [int(text[2:]) for text in texts(read(shards, buffer=10), 40)]
    assert order != sorted(order)
    assert [sorted(order[start : start + 10]) for start in range(0, 40, 10)] == [
        list(range(start, start + 10)) for start in range(0, 40, 10)
    ]


def test_samples_of_one_shard_come_in_another_order_in_each_epoch(tmp_path):
    samples = read(write_shards(tmp_path, [20]), buffer=20)
    first, second = texts(samples, 20), texts(samples, 20)
    assert sorted(first) == sorted(second)
    assert first != second


def test_moving_the_folder_keeps_the_order(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = write_shards(tmp_path / "a", [6, 6]), write_shards(tmp_path / "b", [6, 6])
    assert texts(read(first), 12) == texts(read(second), 12)


@pytest.mark.parametrize("world_size", [1, 2, 5, 7, 12])
def test_the_ranks_together_give_each_sample_once(tmp_path, world_size):
    shards = write_shards(tmp_path, [12] * 5)
    together = []
    for rank in range(world_size):
        for sample, position in read(shards, rank=rank, world_size=world_size):
            if position.epoch > 0:
                break
            together.append(sample.members["txt"].decode())
    assert sorted(together) == names_of([12] * 5)


@settings(max_examples=60, deadline=None)
@given(
    taken=st.integers(0, 50),
    world_size=st.integers(1, 7),
    rank=st.integers(0, 6),
    buffer=st.integers(1, 8),
)
def test_a_resumed_stream_gives_exactly_what_would_have_come(shards, taken, world_size, rank, buffer):
    arguments = {"rank": rank % world_size, "world_size": world_size, "buffer": buffer}
    nonempty = [shard for shard, size in zip(shards, SIZES, strict=True) if size > 2]
    samples = read(nonempty, **arguments)
    position = [StreamPosition(), *(after for _, after in itertools.islice(samples, taken))][-1]
    expected = texts(samples, 20)

    resumed = stream_of(nonempty, **arguments)
    states = [StreamPosition().state_dict()] * world_size
    states[arguments["rank"]] = through_json(position)
    assert texts(resumed.read(resumed.go_on_from(states)), 20) == expected


def test_random_choices_about_a_sample_differ_between_epochs_and_survive_a_resume(shards):
    samples = list(itertools.islice(read(shards), 2 * sum(SIZES)))
    seeds = [sample.seed for sample, _ in samples]
    assert len(set(seeds)) == len(seeds)
    stream = stream_of(shards)
    again = stream.read(stream.go_on_from([through_json(samples[19][1])]))
    assert [sample.seed for sample, _ in itertools.islice(again, 5)] == seeds[20:25]


@pytest.mark.parametrize("taken", range(12))
def test_a_broken_shard_is_told_once_in_a_run_that_is_resumed_anywhere(tmp_path, taken):
    shards = write_shards(tmp_path, [4, 4, 4])
    broken = Path(shards[1])
    broken.write_bytes(broken.read_bytes()[: 512 * 11])  # two samples, and the picture of the third
    before = list(itertools.islice(read(shards), taken))
    stop = before[-1][1] if before else StreamPosition()
    resumed = stream_of(shards)
    behind = itertools.takewhile(
        lambda read: read[1].epoch == 0, resumed.read(resumed.go_on_from([through_json(stop)]))
    )
    told = [sample for sample, _ in [*before, *behind] if sample.bad]
    assert [(Path(sample.shard).name, sample.key, sample.bad.kind) for sample in told] == [
        ("pairs-001.tar", "", "broken_tar")
    ]


def test_shards_without_any_sample_end_the_stream_with_an_error(tmp_path):
    shards = write_shards(tmp_path, [0, 0])
    with pytest.raises(RuntimeError, match=r"no sample in any of 2 shards, such as .*\.tar"):
        next(read(shards))
