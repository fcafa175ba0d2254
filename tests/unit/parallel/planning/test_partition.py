"""Bounds against every way to cut, on small cases; and the refusals."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_ds.parallel.planning.partition import Cost, stage_bounds, stage_costs

COSTS = st.builds(
    Cost,
    time=st.integers(0, 5),
    resident=st.integers(0, 5),
    in_flight=st.integers(0, 3),
    transient=st.integers(0, 9),
    trains=st.booleans(),
)


def brute_force(
    blocks: list[Cost], first: Cost, last: Cost, stages: int, micro_batches: int, limit: int | None
) -> tuple[int, ...] | None:
    """By the definition: of all bounds that keep the rules the smallest (time, memory, bounds)."""
    found = []
    for inner in combinations(range(1, len(blocks)), stages - 1):
        bounds = (0, *inner, len(blocks))
        times, memories, trains = [], [], []
        for stage in range(stages):
            parts = list(blocks[bounds[stage] : bounds[stage + 1]])
            parts += [first] * (stage == 0) + [last] * (stage == stages - 1)
            flights = min(stages - stage, micro_batches)
            times.append(sum(part.time for part in parts))
            kept = sum(part.resident + flights * part.in_flight for part in parts)
            memories.append(kept + max(part.transient for part in parts))
            trains.append(any(part.trains for part in parts))
        if all(trains) and (limit is None or max(memories) <= limit):
            found.append((max(times), max(memories), bounds))
    return min(found)[2] if found else None


@settings(max_examples=200, deadline=None)
@given(
    blocks=st.lists(COSTS, min_size=1, max_size=7),
    first=COSTS,
    last=COSTS,
    stages=st.integers(1, 7),
    micro_batches=st.integers(1, 6),
    limit=st.none() | st.integers(0, 60),
)
def test_equals_brute_force(
    blocks: list[Cost], first: Cost, last: Cost, stages: int, micro_batches: int, limit: int | None
) -> None:
    expected = None if stages > len(blocks) else brute_force(blocks, first, last, stages, micro_batches, limit)
    if expected is None:
        with pytest.raises(ValueError, match="stages"):
            stage_bounds(blocks, first, last, stages, micro_batches, limit)
    else:
        assert stage_bounds(blocks, first, last, stages, micro_batches, limit) == expected


def test_vision_on_the_first_stage_takes_blocks_off_it() -> None:
    """Vision costs as much as three blocks, the head as one: 10 units of time on two stages are 5 and 5."""
    blocks = [Cost(time=1, trains=True)] * 6
    assert stage_bounds(blocks, Cost(time=3), Cost(time=1), stages=2, micro_batches=4) == (0, 2, 6)


def test_equal_times_are_decided_by_memory() -> None:
    """Seven equal blocks on two stages: 4 and 3 or 3 and 4; the first stage keeps twice as much in flight."""
    blocks = [Cost(time=1, in_flight=1, trains=True)] * 7
    bounds = stage_bounds(blocks, Cost(), Cost(), stages=2, micro_batches=8)
    assert bounds == (0, 3, 7)
    assert [cost.memory for cost in stage_costs(bounds, blocks, Cost(), Cost(), 8)] == [6, 4]


def test_memory_limit_moves_the_bounds() -> None:
    blocks = [Cost(time=1, resident=10, in_flight=10, trains=True)] * 6
    assert stage_bounds(blocks, Cost(), Cost(), 2, 4) == (0, 3, 6)  # 3 * (10 + 2 * 10) = 90 and 3 * 20 = 60
    assert stage_bounds(blocks, Cost(), Cost(), 2, 4, memory_limit=85) == (0, 2, 6)  # 2 * 30 = 60 and 4 * 20 = 80
    with pytest.raises(ValueError, match=r"2 stages: the fullest needs 0\.000 GB at best"):
        stage_bounds(blocks, Cost(), Cost(), 2, 4, memory_limit=79)


def test_a_gated_block_every_third_layer() -> None:
    """Gated blocks stand before blocks 0, 3, 6 and 9: each of four stages must begin at one, or just before one."""
    blocks = [Cost(time=1, trains=index % 3 == 0) for index in range(12)]
    assert stage_bounds(blocks, Cost(), Cost(), 4, 4) == (0, 3, 6, 9, 12)
    with pytest.raises(ValueError, match="5 stages: one would hold nothing that trains.*at most 4 are possible"):
        stage_bounds(blocks, Cost(), Cost(), 5, 4)
    # The new tokens' head rows on the last stage train, so it needs no gated block of its own.
    assert len(stage_bounds(blocks, Cost(), Cost(trains=True), 5, 4)) == 6


def test_refusals_say_why() -> None:
    blocks = [Cost(time=1, trains=True)] * 3
    with pytest.raises(ValueError, match="4 stages of 3 LM blocks"):
        stage_bounds(blocks, Cost(), Cost(), 4, 1)
    with pytest.raises(ValueError, match="0 stages"):
        stage_bounds(blocks, Cost(), Cost(), 0, 1)
    with pytest.raises(ValueError, match="nothing trains at all"):
        stage_bounds([Cost()] * 3, Cost(), Cost(), 2, 1)


def test_a_hundred_blocks_take_no_time() -> None:
    blocks = [Cost(time=7, resident=3, in_flight=2, trains=True)] * 100
    bounds = stage_bounds(blocks, Cost(time=20), Cost(time=5), 20, 64)
    slowest = max(cost.time for cost in stage_costs(bounds, blocks, Cost(time=20), Cost(time=5), 64))
    assert slowest == 42  # 725 units of 7 on 20 stages: 36.25 at least, so six blocks


@settings(max_examples=100, deadline=None)
@given(blocks=st.lists(COSTS, min_size=1, max_size=7), first=COSTS, last=COSTS)
def test_the_most_stages_in_the_message_are_possible_and_more_are_not(
    blocks: list[Cost], first: Cost, last: Cost
) -> None:
    possible = [
        stages for stages in range(1, len(blocks) + 1) if brute_force(blocks, first, last, stages, 1, None) is not None
    ]
    for stages in range(1, len(blocks) + 1):
        if stages not in possible:
            expected = f"at most {max(possible)} are possible" if possible else "nothing trains at all"
            with pytest.raises(ValueError, match=expected):
                stage_bounds(blocks, first, last, stages, 1)


def test_what_every_stage_has_counts_once_a_stage() -> None:
    blocks = [Cost(time=1, resident=1, trains=True)] * 4
    each = Cost(resident=100, in_flight=10)
    costs = stage_costs((0, 2, 4), blocks, Cost(), Cost(), 4, each)
    assert [cost.memory for cost in costs] == [2 + 100 + 2 * 10, 2 + 100 + 10]
