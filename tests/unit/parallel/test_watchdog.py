import threading
import time
from datetime import timedelta

import pytest
from torch.distributed import HashStore, TCPStore

from flamingo_ds.parallel import Launch, Watchdog, connect_store

PATIENCE = 100.0


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(clock):
    """Watchdogs whose threads do not look by themselves within the test's time; ``said`` and ``logged`` collect."""

    def watchdog(rank=0, world_size=1, store=None, patience=PATIENCE, **more):
        made = Watchdog(rank, world_size, patience, log=[].append, store=store, say=[].append, clock=clock, **more)
        made.logged, made.said = made.log.__self__, made.say.__self__
        return made

    return watchdog


def wait_until(true, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


def test_who_moves_on_hears_nothing(make, clock):
    watchdog = make()
    for step in range(10):
        watchdog.at(step, "forward of pages")
        clock.now += PATIENCE - 1
        watchdog.look()
    assert watchdog.said == watchdog.logged == []


def test_a_stall_is_said_once_and_then_ever_more_rarely(make, clock):
    watchdog = make()
    watchdog.at(5, "forward of pages")
    said_after = []
    for second in range(1, 1001):
        clock.now += 1
        before = len(watchdog.said)
        watchdog.look()
        said_after += [second] * (len(watchdog.said) - before)
    assert said_after == [100, 200, 400, 800]
    assert watchdog.said[0] == "watchdog: rank 0 has waited 100 s at step 5 in forward of pages (entry 0)"


def test_going_on_is_told_and_the_next_stall_is_a_new_one(make, clock):
    watchdog = make()
    watchdog.at(5, "saving")
    clock.now += 130
    watchdog.look()
    watchdog.doing("reading data")
    watchdog.look()
    assert watchdog.logged[-1] == (
        "watchdog: rank 0 goes on at step 5 in reading data (entry 1); "
        "it had waited 130 s at step 5 in saving (entry 0)"
    )
    clock.now += PATIENCE
    watchdog.look()
    assert "has waited 100 s at step 5 in reading data" in watchdog.said[-1]
    assert len(watchdog.said) == 2


def test_the_same_words_again_are_a_new_place(make, clock):
    watchdog = make()
    for _ in range(3):
        watchdog.at(5, "forward of pages")
        clock.now += PATIENCE - 1
        watchdog.look()
    assert watchdog.said == []


def test_entries_count_within_a_step(make):
    watchdog = make()
    places = []
    for step, what in [(1, "a"), (1, "b"), (1, "b"), (2, "a")]:
        watchdog.at(step, what)
        places.append(tuple(watchdog._own()[0]))
    assert places == [(1, 0, "a"), (1, 1, "b"), (1, 2, "b"), (2, 0, "a")]


def test_the_log_has_the_stack_of_the_thread_that_trains(make, clock):
    watchdog, entered, leave = make(), threading.Event(), threading.Event()

    def a_collective_that_hangs():
        entered.set()
        leave.wait(10)

    def look():
        entered.wait(10)
        clock.now += PATIENCE
        watchdog.look()
        leave.set()

    other = threading.Thread(target=look)
    other.start()
    a_collective_that_hangs()
    other.join()
    assert "in a_collective_that_hangs" in watchdog.logged[0]
    assert "\n" not in watchdog.said[0]


def tell(*watchdogs):
    """Post the places now, behind what the boards' threads post when they start."""
    for watchdog in watchdogs:
        watchdog._board.ask()
        watchdog._board.post()


def test_ranks_name_each_other_and_the_lowest_speaks_for_all(make, clock):
    store = HashStore()
    with make(0, 3, store) as first, make(1, 3, store) as second, make(2, 3, store) as third:
        first.at(7, "reading data")
        for watchdog in (second, third):
            watchdog.at(7, "reading data")
            watchdog.doing("forward of pairs")
        clock.now += PATIENCE
        tell(first, second, third)
        for watchdog in (third, second, first):
            watchdog.look()
    behind = "behind: rank 0 at step 7 in reading data (entry 0)"
    where = "at step 7 in forward of pairs (entry 1)"
    assert [watchdog.logged[0].splitlines()[0] for watchdog in (first, second, third)] == [
        f"watchdog: rank 0 has waited 100 s at step 7 in reading data (entry 0); ahead: ranks 1-2 {where}",
        f"watchdog: rank 1 has waited 100 s {where}; {behind}; so have 1 others",
        f"watchdog: rank 2 has waited 100 s {where}; {behind}; so have 1 others",
    ]
    assert [len(watchdog.said) for watchdog in (first, second, third)] == [1, 0, 0]


def test_a_lower_rank_that_moves_does_not_silence_the_others(make, clock):
    store = HashStore()
    with make(0, 2, store) as first, make(1, 2, store) as second:
        clock.now += PATIENCE
        first.at(3, "reading data")
        tell(first)
        second.look()
    assert second.said == [
        "watchdog: rank 1 has waited 100 s at step 0 in start (entry 0); "
        "ahead: rank 0 at step 3 in reading data (entry 0)"
    ]


def test_mixed_kinds_of_batch_are_found(make, clock):
    store = HashStore()
    with make(0, 2, store) as first, make(1, 2, store) as second:
        first.at(7, "forward of pages")
        second.at(7, "forward of pairs")
        clock.now += PATIENCE
        tell(second)
        first.look()
    assert first.said == [
        "watchdog: rank 0 has waited 100 s at step 7 in forward of pages (entry 0); in another kind of batch at the "
        "same entry: rank 1 in forward of pairs; all ranks must run the same kinds of batch in the same order, or they "
        "wait for each other for ever"
    ]


def test_ranks_that_left_or_never_came_are_named(make, clock):
    store = HashStore()
    with make(0, 4, store) as first:
        with make(1, 4, store):
            pass
        with pytest.raises(ZeroDivisionError), make(2, 4, store):
            raise ZeroDivisionError
        clock.now += PATIENCE
        first.look()
    assert "; ended: rank 1 (done), rank 2 (ZeroDivisionError); never heard of: rank 3" in first.said[0]


def test_a_rank_that_is_killed_falls_silent(make, clock, monkeypatch):
    store = HashStore()
    with make(0, 2, store) as first, make(1, 2, store) as second:
        tell(second)
        clock.now += PATIENCE
        later = time.time() + 31
        monkeypatch.setattr("flamingo_ds.parallel.rank_board.time.time", lambda: later)
        first.look()
    assert "; not heard of for over 30 s: rank 1 last at step 0 in start (entry 0)" in first.said[0]


class BrokenStore:
    """A store that answers ``answers`` calls and then is gone."""

    def __init__(self, answers, failure):
        self.answers, self.failure = answers, failure

    def set(self, *_):
        self.answers -= 1
        if self.answers < 0:
            self.failure()

    check = multi_get = set  # noqa: A003


def test_a_store_that_fails_costs_only_the_others_places(make, clock):
    def fail():
        raise RuntimeError("Broken pipe\nwith a stack")

    with make(0, 2, BrokenStore(1, fail)) as watchdog:
        clock.now += PATIENCE
        watchdog.look()
    assert watchdog.said[0].endswith("serves, is gone (RuntimeError: Broken pipe)")


def test_a_store_that_never_answers_costs_a_moment(make, clock, monkeypatch):
    monkeypatch.setattr("flamingo_ds.parallel.rank_board.ANSWER_SECONDS", 0.3)
    forever = threading.Event()
    with make(0, 2, BrokenStore(1, lambda: forever.wait(10))) as watchdog:
        clock.now += PATIENCE
        watchdog.look()
        assert watchdog.said[0].endswith("; the other ranks cannot be asked: the store did not answer in 0 s")
        forever.set()


def test_patience_of_zero_is_off(make, clock):
    with make(0, 2, HashStore(), patience=0.0) as watchdog:
        assert not watchdog._thread.is_alive()
        clock.now += 10**6
        watchdog.look()
        watchdog.at(1, "forward of pages")
    assert watchdog.logged == []


def test_shortly_before_a_collective_times_out_it_names_who_is_missing(make, clock):
    store = HashStore()
    limits = {"timeout_s": 60.0, "patience": 0.0}
    with make(0, 2, store, node="n1", **limits) as first, make(1, 2, store, node="n2", **limits) as second:
        second.at(5, "reading data")
        tell(second)
        first.at(5, "reading data")
        first.doing("forward of pages")
        clock.now += 56
        first.look()
        assert first.said == []
        clock.now += 1
        first.look()
        first.look()
        (line,) = first.said
        late = "rank 1 on n2 at step 5 in reading data (entry 0)"
        assert line.endswith(f"; the time of a collective is nearly over, did not arrive: {late}")
        assert first.missing() == late
        first.doing("backward of pages")
        clock.now += 58
        first.look()
        assert len(first.said) == 2


def test_a_single_process_has_no_collective_to_time_out(make, clock):
    with make(0, 1, None, patience=0.0, timeout_s=60.0) as watchdog:
        clock.now += 10**6
        watchdog.look()
    assert watchdog.said == []


def test_the_threads_speak_by_themselves():
    """Real time, real threads, a real store whose server is gone in the end."""
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=5))
    launches = [Launch(rank, rank, 2, "127.0.0.1", server.port) for rank in range(2)]
    logs, said = [[], []], [[], []]
    dogs = [
        Watchdog(rank, 2, 0.5, logs[rank].append, connect_store(launches[rank]), said[rank].append) for rank in range(2)
    ]
    with dogs[0], dogs[1]:
        dogs[0].at(1, "reading data")
        dogs[1].at(2, "reading data")
        wait_until(lambda: logs[0] and logs[1])
        assert "ahead: rank 1 at step 2 in reading data" in logs[0][0]
        assert "behind: rank 0 at step 1 in reading data" in logs[1][0]
        before = len(logs[1])
        del server
        dogs[1].at(3, "reading data")
        wait_until(lambda: any("at step 3 in reading data (entry 0); the other" in line for line in logs[1][before:]))
    assert not dogs[0]._thread.is_alive()
    assert not dogs[1]._board._thread.is_alive()


def test_no_store_no_connection():
    assert connect_store(Launch(0, 0, 1, "127.0.0.1", 1)) is None
