"""Whose fault it was: the first rank that failed by itself, before those that only noticed."""

from collections.abc import Sequence

from .attempts import RankEnd

MOST_NAMES = 8


def describe_worst(ends: Sequence[RankEnd]) -> list[str]:
    """Lines on the worst rank of a start, its traceback below; none where nothing failed.

    Args:
        ends: of all ranks of one start.
    """
    failed = sorted((end for end in ends if end.failed), key=lambda end: (end.follows, end.ended or 0.0))
    silent = [end for end in ends if end.ended is None]
    if failed and not failed[0].follows:
        return _own_failure(failed[0])
    lines = []
    if silent and len(silent) < len(ends):
        lines.append(f"worst rank     {_names(silent)}: no word of an end; killed, or the node is gone")
    elif silent:
        lines.append(f"worst rank     none of {len(ends)} ranks said how it ended: all were killed, or the run goes on")
    if failed:
        lines += [f"noticed by     {_name(failed[0])}", *_indented(failed[0].error)]
    return lines


def _own_failure(end: RankEnd) -> list[str]:
    return [f"worst rank     {_name(end)}", *_indented(end.error)]


def _name(end: RankEnd) -> str:
    reached = f" at step {end.step}" if end.step is not None else ""
    return f"{end.name}: exit code {end.code}{reached}"


def _names(ends: Sequence[RankEnd]) -> str:
    names = ", ".join(end.name for end in ends[:MOST_NAMES])
    return names + (f" and {len(ends) - MOST_NAMES} more" if len(ends) > MOST_NAMES else "")


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]
