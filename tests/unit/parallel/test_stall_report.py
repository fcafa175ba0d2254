import pytest

from flamingo_ds.parallel.stall_report import Place, Sighting, describe_missing, describe_stall, name_ranks

HERE = Place(17, 3, "forward of pages")


def seen(step=17, entry=3, what="forward of pages", age=1.0, ended=None, node=""):
    return Sighting(Place(step, entry, what), 300.0, age, ended, node)


def stall(others, world_size=None):
    world_size = world_size or (len(others) + 1 if not isinstance(others, str) else 2)
    line = describe_stall(1, HERE, 300.4, others, world_size, silent_after=30.0)
    assert "\n" not in line
    assert line.startswith("rank 1 has waited 300 s at step 17 in forward of pages (entry 3)")
    return line.removeprefix("rank 1 has waited 300 s at step 17 in forward of pages (entry 3)")


def test_a_single_process_names_only_itself():
    line = describe_stall(0, HERE, 300.4, {}, 1, silent_after=30.0)
    assert line == "rank 0 has waited 300 s at step 17 in forward of pages (entry 3)"


def test_all_at_the_same_place():
    assert stall({0: seen(), 2: seen()}) == "; so have all 3 ranks"


def test_ranks_behind_are_named_with_their_places():
    others = {
        0: seen(16, 5, "optimizer step"),
        2: seen(17, 2, "reading data"),
        3: seen(),
        4: seen(16, 5, "optimizer step"),
    }
    assert stall(others) == (
        "; behind: ranks 0, 4 at step 16 in optimizer step (entry 5), rank 2 at step 17 in reading data (entry 2)"
        "; so have 1 others"
    )


def test_the_rank_behind_learns_who_is_ahead():
    assert stall({0: seen(17, 4, "optimizer step"), 2: seen(18, 0, "reading data")}) == (
        "; ahead: rank 0 at step 17 in optimizer step (entry 4), rank 2 at step 18 in reading data (entry 0)"
    )


def test_mixed_kinds_of_batch_are_called_that():
    assert stall({0: seen(), 2: seen(what="forward of pairs"), 3: seen(what="forward of pairs")}) == (
        "; in another kind of batch at the same entry: ranks 2-3 in forward of pairs"
        "; all ranks must run the same kinds of batch in the same order, or they wait for each other for ever"
        "; so have 1 others"
    )


def test_the_same_kind_earlier_in_the_step_is_behind_and_not_mixed():
    line = stall({0: seen(entry=1, what="forward of pairs")})
    assert line == "; behind: rank 0 at step 17 in forward of pairs (entry 1)"


def test_ranks_that_ended_went_silent_or_never_spoke():
    others = {0: seen(ended="done"), 2: seen(ended="OutOfMemoryError"), 3: seen(16, 0, "reading data", age=31.0)}
    assert stall(others, world_size=7) == (
        "; ended: rank 0 (done), rank 2 (OutOfMemoryError)"
        "; not heard of for over 30 s: rank 3 last at step 16 in reading data (entry 0)"
        "; never heard of: ranks 4-6"
    )


def test_a_rank_that_ended_long_ago_is_not_called_silent():
    assert stall({0: seen(age=1000.0, ended="done")}) == "; ended: rank 0 (done)"


def test_why_the_others_cannot_be_asked():
    assert stall("their store is gone") == ("; the other ranks cannot be asked: their store is gone")


def test_a_thousand_ranks_all_elsewhere_still_make_a_short_line():
    others = {rank: seen(rank % 17, 0, "reading data") for rank in range(1000) if rank != 1}
    line = stall(others)
    assert len(line) < 1000
    assert "more ranks elsewhere" in line


@pytest.mark.parametrize(
    ("ranks", "text"),
    [
        ([3], "rank 3"),
        ([4, 3], "ranks 3-4"),
        ([9, 0, 1, 2, 3], "ranks 0-3, 9"),
        (range(0, 40, 2), "ranks 0, 2, 4, 6, 8, 10, 12, 14 and 12 more"),
    ],
)
def test_names_of_ranks(ranks, text):
    assert name_ranks(ranks) == text


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ({0: seen(), 2: seen(age=40.2, node="n2"), 3: seen()}, f"rank 2 on n2 not heard of for 40 s, last {HERE}"),
        (
            {0: seen(), 2: seen(17, 1, "reading data", node="n2")},
            "rank 2 on n2 at step 17 in reading data (entry 1); rank 3 never heard of",
        ),
        # A rank that timed out a moment earlier has ended; it is not the one that was missing.
        (
            {0: seen(ended="RuntimeError"), 2: seen(age=40, node="n2"), 3: seen()},
            f"rank 2 on n2 not heard of for 40 s, last {HERE}",
        ),
        ({0: seen(ended="ValueError", node="n1"), 2: seen(), 3: seen()}, "rank 0 on n1 ended (ValueError)"),
        ({0: seen(), 2: seen(), 3: seen()}, "all were heard of and are here, so the network between them is to blame"),
        ("the store is gone", "rank 0, by all signs, whose node serves their store: the store is gone"),
    ],
)
def test_who_did_not_arrive(others, expected):
    assert describe_missing(1, HERE, others, 4, silent_after=30.0) == expected


def test_rank_0_does_not_blame_itself_for_a_store_that_is_gone():
    assert describe_missing(0, HERE, "it is gone", 4, silent_after=30.0) == "nobody can tell which: it is gone"


def test_of_many_that_did_not_arrive_some_are_named():
    line = describe_missing(0, HERE, {}, 20, silent_after=30.0)
    assert line.startswith("rank 1 never heard of; rank 2 never heard of; ")
    assert line.endswith("; rank 8 never heard of; and 11 more")
