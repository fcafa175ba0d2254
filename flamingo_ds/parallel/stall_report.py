"""What a rank that waits too long says: where it stands, and where that leaves the others. Pure text, no clock."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import NamedTuple

# So many groups of ranks, and so many runs of numbers within one, fit a line that is still read.
MAX_GROUPS, MAX_RUNS = 4, 8


class Place(NamedTuple):
    """Where a rank is in the training."""

    step: int
    entry: int
    """How many places of this step came before. All ranks come through the same ones in the same order."""
    what: str
    """Such as "forward of pages"."""

    def __str__(self) -> str:
        return f"at step {self.step} in {self.what} (entry {self.entry})"


class Sighting(NamedTuple):
    """What is known of another rank."""

    place: Place
    waited: float
    """Seconds that it had been there when it last told."""
    age: float
    """Seconds since then, if the clocks of the machines agree."""
    ended: str | None
    """How it ended, if it did."""
    node: str = ""
    """The machine that it is on."""


def describe_stall(
    rank: int, place: Place, waited: float, others: Mapping[int, Sighting] | str, world_size: int, silent_after: float
) -> str:
    """One line on a stall.

    Args:
        rank, place, waited: who waits where, since how many seconds.
        others: the other ranks that ever told where they are; or why they cannot be asked.
        world_size: how many ranks there are.
        silent_after: a rank that told nothing for so many seconds is called silent.
    """
    parts = [f"rank {rank} has waited {waited:.0f} s {place}"]
    if isinstance(others, str):
        return f"{parts[0]}; the other ranks cannot be asked: {others}"
    silent = {other: seen for other, seen in others.items() if seen.ended is None and seen.age > silent_after}
    alive = {other: seen.place for other, seen in others.items() if seen.ended is None and other not in silent}
    here, order = place[:2], {other: seen[:2] for other, seen in alive.items()}
    mixed = {other: seen for other, seen in alive.items() if order[other] == here and seen.what != place.what}
    groups = {
        "behind": {other: str(seen) for other, seen in alive.items() if order[other] < here},
        "ahead": {other: str(seen) for other, seen in alive.items() if order[other] > here},
        "in another kind of batch at the same entry": {other: f"in {seen.what}" for other, seen in mixed.items()},
        "ended": {other: f"({seen.ended})" for other, seen in others.items() if seen.ended is not None},
        f"not heard of for over {silent_after:.0f} s": {other: f"last {seen.place}" for other, seen in silent.items()},
    }
    parts += [f"{name}: {_group(members)}" for name, members in groups.items() if members]
    if mixed:
        parts.append(
            "all ranks must run the same kinds of batch in the same order, or they wait for each other for ever"
        )
    unheard = set(range(world_size)) - set(others) - {rank}
    if unheard:
        parts.append(f"never heard of: {name_ranks(unheard)}")
    same = sum(seen == place for seen in alive.values())
    if same:
        parts.append(f"so have all {world_size} ranks" if same == world_size - 1 else f"so have {same} others")
    return "; ".join(parts)


def describe_missing(
    rank: int, place: Place, others: Mapping[int, Sighting] | str, world_size: int, silent_after: float
) -> str:
    """Which ranks did not come to a place in time, with their nodes, for the end of a run.

    Those that are silent, behind or were never heard of; only if there are none, those that ended.

    Args:
        rank, place: who waited where.
        others, world_size, silent_after: see :func:`describe_stall`.
    """
    if isinstance(others, str):
        return (
            f"rank 0, by all signs, whose node serves their store: {others}"
            if rank
            else f"nobody can tell which: {others}"
        )
    missing = dict.fromkeys(sorted(set(range(world_size)) - set(others) - {rank}), "never heard of")
    ended = {}
    for other, seen in sorted(others.items()):
        if seen.ended is not None:
            ended[other] = f"ended ({seen.ended})"
        elif seen.age > silent_after:
            missing[other] = f"not heard of for {seen.age:.0f} s, last {seen.place}"
        elif seen.place[:2] < place[:2]:
            missing[other] = str(seen.place)
    missing = missing or ended
    if not missing:
        return "all were heard of and are here, so the network between them is to blame"
    names = [
        f"rank {other}{f' on {others[other].node}' if other in others and others[other].node else ''} {why}"
        for other, why in sorted(missing.items())[:MAX_RUNS]
    ]
    more = [f"and {len(missing) - MAX_RUNS} more"] if len(missing) > MAX_RUNS else []
    return "; ".join([*names, *more])


def name_ranks(ranks: Iterable[int]) -> str:
    """``rank 3`` or ``ranks 0-6, 9``."""
    ordered = sorted(ranks)
    # Ranks in a row differ from their index by the same number.
    rows = [[rank for _, rank in row] for _, row in groupby(enumerate(ordered), lambda pair: pair[1] - pair[0])]
    names = [str(row[0]) if len(row) == 1 else f"{row[0]}-{row[-1]}" for row in rows]
    more = sum(map(len, rows[MAX_RUNS:]))
    text = ", ".join(names[:MAX_RUNS]) + (f" and {more} more" if more else "")
    return f"{'rank' if len(ordered) == 1 else 'ranks'} {text}"


def _group(members: Mapping[int, str]) -> str:
    """``rank 3 at ..., ranks 4-7 at ...``: ranks of which the same is to be said come together."""
    alike: dict[str, list[int]] = {}
    for rank in sorted(members):
        alike.setdefault(members[rank], []).append(rank)
    texts = [f"{name_ranks(ranks)} {text}" for text, ranks in alike.items()]
    more = sum(map(len, list(alike.values())[MAX_GROUPS:]))
    return ", ".join(texts[:MAX_GROUPS]) + (f" and {more} more ranks elsewhere" if more else "")
