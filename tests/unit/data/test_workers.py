"""Ranks and workers over real shards: what comes depends on neither."""

import itertools
import json
import os
import random
import signal
import threading
import time

import pytest

from flamingo_ds.config import BatchPlan
from flamingo_ds.config.schema import SampleFormat
from flamingo_ds.data import Mixture
from flamingo_ds.data.packing import Packing
from flamingo_ds.data.workers import DecodePool, _end_with_parent

from .conftest import dataset_of
from .making import page, pair, picture, write_tar
from .test_mixture import same

PLANS = [BatchPlan("pairs", 8, 2, 2), BatchPlan("pages", 6, 3, 1)]
PAIRS, PAGES = 60, 24


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Four shards of pairs and three of pages; each text is a number of its own, every seventh pair is bad."""
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(4):
        samples = [pair(str(n), " " if n % 7 == 3 else str(n), picture(n)) for n in range(shard, PAIRS, 4)]
        write_tar(folder / f"pairs-{shard}.tar", itertools.chain(*samples))
    for shard in range(3):
        pages = [page(str(n), [None, str(n), None, "dog"], [0, None, 1, None], [picture(n)] * 2) for n in range(PAGES)]
        write_tar(folder / f"pages-{shard}.tar", itertools.chain(*pages[shard::3]))
    return folder


@pytest.fixture
def mixtures(shards):
    """Mixtures of a rank; their workers end with the test."""
    made = []

    def make(rank=0, ranks=1, workers=0):
        pool = DecodePool(workers)
        common = {"rank": rank, "world_size": ranks, "max_bad_share": 1.0, "pool": pool}
        packing = Packing(16, 3)
        datasets = [
            dataset_of(f"{shards}/pairs-*.tar", name="pairs", packing=packing, **common),
            dataset_of(f"{shards}/pages-*.tar", SampleFormat.interleaved, name="pages", **common),
        ]
        made.append(Mixture(datasets, PLANS, [1.0, 0.2], pool))
        return made[-1]

    yield make
    for mixture in made:
        mixture.close()


def steps_of(mixture, count):
    return [[micro.batch for micro in next(mixture)] for _ in range(count)]


def equal(one, other):
    return all(same(a, b) for ours, theirs in zip(one, other, strict=True) for a, b in zip(ours, theirs, strict=True))


def test_two_ranks_of_two_workers_give_what_one_process_a_rank_gives(mixtures):
    for rank in range(2):
        alone, working = (mixtures(rank, 2, workers) for workers in (0, 2))
        assert equal(steps_of(alone, 6), steps_of(working, 6))
        assert alone.state_dict() == working.state_dict()


@pytest.mark.parametrize("seed", range(3))
def test_a_stop_anywhere_resumes_with_any_number_of_workers(mixtures, seed):
    rng = random.Random(seed)
    for rank in range(2):
        stop = rng.randrange(1, 8)
        running = mixtures(rank, 2, workers=2)
        steps_of(running, stop)
        states = [{}, {}]
        states[rank] = json.loads(json.dumps(running.state_dict()))
        states[1 - rank] = mixtures(1 - rank, 2).state_dict()
        wanted = steps_of(running, 4)
        for workers in (0, 1, 2):
            resumed = mixtures(rank, 2, workers)
            resumed.load_states(states, stop)
            assert equal(wanted, steps_of(resumed, 4))


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 3)])
def test_with_another_number_of_ranks_each_page_of_an_epoch_comes_once(mixtures, before, after):
    """Two ranks of two workers stop inside an epoch; others read the rest."""
    saved = [mixtures(rank, before, 2) for rank in range(before)]
    seen = [text for mixture in saved for text in pages_of(steps_of(mixture, 2))]
    states = json.loads(json.dumps([mixture.state_dict() for mixture in saved]))
    for rank in range(after):
        mixture = mixtures(rank, after, 2)
        mixture.load_states(states, 2)
        (dataset,) = (dataset for dataset in mixture.datasets if dataset.name == "pages")
        while True:
            sequence = next(dataset)
            if dataset.position.dealt is None:
                break
            seen.append(sequence.input_ids[2])
    assert len(seen) == len(set(seen)) == PAGES


def pages_of(steps):
    return [row[2] for step in steps for row in step[-1].input_ids.tolist()]


def test_workers_do_not_heed_signals_and_go_when_they_are_told(mixtures):
    mixture = mixtures(workers=2)
    steps_of(mixture, 1)
    workers = list(mixture.pool._pool._processes)
    for worker in workers:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            os.kill(worker, number)
    steps_of(mixture, 2)
    processes = list(mixture.pool._pool._processes.values())
    mixture.close()
    deadline = time.monotonic() + 20
    while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(process.is_alive() for process in processes)


def test_a_worker_whose_parent_is_gone_goes_too():
    left = []
    thread = threading.Thread(target=_end_with_parent, args=(17, lambda: 1, left.append))
    thread.start()
    thread.join(10)
    assert left == [1]
