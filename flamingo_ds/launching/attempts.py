"""The starts of a run, read back from what its ranks wrote down (:mod:`.exit_record`)."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EXIT_DONE, EXIT_HALTED, EXIT_STOPPED
from .run_files import ENDS_SUFFIX, RunFiles

GOOD_ENDS = (EXIT_DONE, EXIT_STOPPED, EXIT_HALTED)


@dataclass(frozen=True)
class RankEnd:
    """One rank in one start of the run.

    Attributes:
        job, restart: of SLURM; None and 0 without it.
        node, rank, ranks: who it is, and among how many.
        began: seconds since 1970.
        ended: the same; None: it said nothing, so it was killed, or lives.
        code, signal, step, follows, error: see :class:`~flamingo_ds.launching.exit_record.ExitRecord`.
    """

    job: str | None
    restart: int
    node: str
    rank: int
    ranks: int
    began: float
    ended: float | None = None
    code: int | None = None
    signal: str | None = None
    step: int | None = None
    follows: bool = False
    error: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether it said that it did."""
        return self.code is not None and self.code not in GOOD_ENDS

    @property
    def name(self) -> str:
        """For people."""
        return f"rank {self.rank} on {self.node}"


def read_starts(files: RunFiles) -> list[RankEnd]:
    """Every start of the run, as its rank 0 tells it, in their order."""
    paths = [*files.logs.glob(f"rank-0000{ENDS_SUFFIX}"), *files.logs.glob(f"*/*-0{ENDS_SUFFIX}")]
    return sorted((end for path in paths for end in _read(path)), key=lambda end: end.began)


def read_last(files: RunFiles) -> list[RankEnd]:
    """All ranks of the latest start, in their order."""
    starts = read_starts(files)
    if not starts:
        return []
    last = starts[-1]
    folder = files.logs if last.job is None else files.logs / last.job
    ends: dict[int, RankEnd] = {}
    for path in folder.glob(f"*{ENDS_SUFFIX}"):
        for end in _read(path):
            same = (end.job, end.restart, end.ranks) == (last.job, last.restart, last.ranks)
            if same and (end.rank not in ends or ends[end.rank].began < end.began):
                ends[end.rank] = end
    return [ends[rank] for rank in sorted(ends)]


def _read(path: Path) -> Iterator[RankEnd]:
    """Pairs of lines, and starts that have no end."""
    begun: dict[str, Any] | None = None
    for line in _lines(path):
        if line["event"] == "start":
            if begun is not None:
                yield _rank_end(begun, {})
            begun = line
        elif begun is not None:
            yield _rank_end(begun, line)
            begun = None
    if begun is not None:
        yield _rank_end(begun, {})


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # half a line, of a node that went down
            continue


def _rank_end(start: dict[str, Any], end: dict[str, Any]) -> RankEnd:
    about: dict[str, Any] = {name: start[name] for name in ("job", "restart", "node", "rank", "ranks")}
    how: dict[str, Any] = {name: end.get(name) for name in ("code", "signal", "step")}
    error = tuple(end.get("error", ()))
    return RankEnd(
        **about, began=start["time"], ended=end.get("time"), **how, follows=bool(end.get("follows")), error=error
    )
