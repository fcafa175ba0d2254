"""A run that goes on with another number of ranks: within an epoch no sample is lost or comes twice."""

import itertools
import json
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_ds.data.segments import StreamPosition
from flamingo_ds.data.stream import SampleStream

from .making import write_shards

LARGEST, MOST = 9, 6


@pytest.fixture(scope="module")
def library():
    """``library[shard][size]``: shards of every size, so that an example need not write any."""
    with tempfile.TemporaryDirectory() as folder:
        by_size = [write_shards(Path(folder), [size] * MOST, prefix=str(size)) for size in range(LARGEST + 1)]
        yield [list(of_shard) for of_shard in zip(*by_size, strict=True)]


class Rank:
    """A stream with its position, as a dataset keeps it."""

    def __init__(self, stream, position):
        self.stream, self.position = stream, position
        self.samples = stream.read(position)

    def __iter__(self):
        for sample, position in self.samples:
            epoch = self.stream.order.segments(position, self.stream.rank, self.stream.world_size)[position.shard].epoch
            self.position = position
            yield epoch, sample.members["txt"].decode()


def start(shards, world_size, buffer, states=None):
    """All ranks of a run, from the beginning or from the states of another run."""
    streams = [SampleStream(shards, rank, world_size, 7, buffer) for rank in range(world_size)]
    return [Rank(stream, stream.go_on_from(states) if states else StreamPosition()) for stream in streams]


def take(rank, count, counts, last_epoch=10**9):
    """Count up to ``count`` samples by epoch; a rank that gets none of a whole epoch ends early, as any run does."""
    try:
        for epoch, text in itertools.islice(rank, count):
            if epoch > last_epoch:
                return
            counts[epoch, text] += 1
    except RuntimeError as error:
        assert "no sample in any of" in str(error)


def states_of(ranks):
    return json.loads(json.dumps([rank.position.state_dict() for rank in ranks]))


runs = st.lists(
    st.integers(1, 5).flatmap(lambda ranks: st.lists(st.integers(0, 25), min_size=ranks, max_size=ranks)),
    min_size=2,
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(0, LARGEST), min_size=1, max_size=MOST).filter(any),
    buffer=st.integers(1, 8),
    runs=runs,
)
def test_every_sample_of_every_epoch_comes_exactly_once(library, sizes, buffer, runs):
    """Runs of any numbers of ranks, one behind the other; each rank stops after a number of samples of its own."""
    shards = [library[shard][size] for shard, size in enumerate(sizes)]
    counts: Counter[tuple[int, str]] = Counter()
    states = None
    for stops in runs:
        streams = start(shards, len(stops), buffer, states)
        for stream, stop in zip(streams, stops, strict=True):
            take(stream, stop, counts)
        states = states_of(streams)
    last = max(state["epoch"] for state in states)
    (stream,) = start(shards, 1, buffer, states)
    take(stream, 10**9, counts, last)
    expected = [f"{shard}-{index}" for shard, size in enumerate(sizes) for index in range(size)]
    got = Counter({place: number for place, number in counts.items() if place[0] <= last})
    assert got == Counter(itertools.product(range(last + 1), expected))


@settings(max_examples=50, deadline=None)
@given(
    stops=st.lists(st.integers(0, 30), min_size=1, max_size=5),
    ranks=st.integers(1, 5),
    taken=st.lists(st.integers(0, 30), min_size=5, max_size=5),
    buffer=st.integers(1, 8),
)
def test_a_stop_among_what_was_dealt_again_is_resumed_exactly(library, stops, ranks, taken, buffer):
    shards = [library[shard][5 + shard % 4] for shard in range(MOST)]
    streams = start(shards, len(stops), buffer)
    for stream, stop in zip(streams, stops, strict=True):
        take(stream, stop, Counter())
    running = start(shards, ranks, buffer, states_of(streams))
    iterators = [iter(stream) for stream in running]
    for samples, count in zip(iterators, taken[:ranks], strict=True):
        list(itertools.islice(samples, count))
    states = states_of(running)
    for samples, resumed in zip(iterators, start(shards, ranks, buffer, states), strict=True):
        ours, theirs = ([text for _, text in itertools.islice(source, 25)] for source in (samples, iter(resumed)))
        assert ours == theirs


def test_a_rank_to_which_nothing_is_left_goes_on_with_the_next_epoch(library):
    shards = [library[shard][4] for shard in range(3)]
    streams = start(shards, 1, 2)
    take(streams[0], 11, Counter())  # one sample is left
    counts = [Counter() for _ in range(3)]
    for stream, count in zip(start(shards, 3, 2, states_of(streams)), counts, strict=True):
        take(stream, 3, count)
    assert [{epoch for epoch, _ in count} for count in counts] == [{0, 1}, {1}, {1}]


def test_two_segments_of_a_shard_keep_the_order_they_had(library):
    """Two ranks share a shard; one rank reads both halves, each in the order that the two would have had."""
    shards = [library[0][9]]
    streams = start(shards, 2, 3)
    halves = [[text for _, text in itertools.islice(iter(stream), 5 - rank)] for rank, stream in enumerate(streams)]
    (one,) = start(shards, 1, 3, states_of(start(shards, 2, 3)))
    assert [text for _, text in itertools.islice(iter(one), 9)] == halves[0] + halves[1]
