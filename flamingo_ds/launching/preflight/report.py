"""What a preflight leaves behind: a file for the batch script, a table for people."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..run_files import Job, RunFiles, replace_text
from .checks import NodeReport
from .verdict import Bad, visible_gpus


@dataclass
class Findings:
    """Of all stages, as far as they went; by rank.

    Attributes:
        local: of each rank's node.
        skews: seconds of each clock against rank 0's.
        torch, together: answers of the processes with torch.
        bad: reasons by node.
        failure: what is wrong where no node is to blame; empty if nothing is.
    """

    local: dict[int, NodeReport] = field(default_factory=dict)
    skews: dict[int, float] = field(default_factory=dict)
    torch: dict[int, dict[str, Any]] = field(default_factory=dict)
    together: dict[int, dict[str, Any]] = field(default_factory=dict)
    bad: Bad = field(default_factory=dict)
    failure: str = ""


def path_of(run_dir: Path, job: Job) -> Path:
    """Of a job's file; each start of the job adds to it."""
    logs = RunFiles(run_dir).logs
    return logs / "preflight-alone.json" if job.number is None else logs / job.number / f"preflight-{job.number}.json"


def write(path: Path, job: Job, bad: Mapping[str, str], failure: str) -> None:
    """``{"restart", "bad": {node: reason}, "failure", "attempts": [the same of each start]}``.

    Raises:
        OSError: the run folder cannot be written to.
    """
    attempt = {"restart": job.restarts, "bad": dict(bad), "failure": failure}
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps({**attempt, "attempts": [*_attempts(path), attempt]}, indent=2) + "\n")


def is_written(path: Path, job: Job) -> bool:
    """Whether somebody has judged this start of the job already."""
    attempts = _attempts(path)
    return bool(attempts) and attempts[-1]["restart"] == job.restarts


def _attempts(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["attempts"] if path.exists() else []


def table(findings: Findings, nodes: Sequence[str]) -> str:
    """A line a node, and one on all together.

    Args:
        findings: to show.
        nodes: of each rank.
    """
    lines = [f"{'node':<16}{'python':<9}{'torch':<16}{'GPUs':>5}{'free GB':>9}{'clock s':>9}{'GB/s':>7}"]
    ranks_of: dict[str, list[int]] = {}
    for rank, node in enumerate(nodes):
        ranks_of.setdefault(node, []).append(rank)
    for node, ranks in ranks_of.items():
        said = [findings.local[rank] for rank in ranks if rank in findings.local]
        if not said:
            lines.append(f"{node:<16}no answer")
            continue
        gpus = [findings.torch[rank].get("gpus", 0) for rank in ranks if rank in findings.torch]
        speed = _bandwidth([findings.together.get(rank, {}) for rank in ranks], "node_seconds", len(ranks))
        skew = max((findings.skews.get(rank, 0.0) for rank in ranks), key=abs)
        lines.append(
            f"{node:<16}{said[0].python:<9}{said[0].torch or '-':<16}{visible_gpus(gpus) if gpus else '-':>5}"
            f"{said[0].free_gb:>9.1f}{skew:>9.1f}{speed:>7}"
        )
    everything = _bandwidth(list(findings.together.values()), "all_seconds", len(nodes))
    lines.append(f"all-reduce over all {len(nodes)} ranks, bus bandwidth in GB/s: {everything}")
    lines += [f"bad node {node}: {reason}" for node, reason in findings.bad.items()]
    return "\n".join([*lines, *([findings.failure] if findings.failure else [])])


def _bandwidth(answers: Sequence[Mapping[str, Any]], key: str, ranks: int) -> str:
    """Of the slowest rank, as a ring would load each link: 2 (n - 1) / n of the tensor in its time."""
    slowest = max((answer[key] for answer in answers if key in answer), default=None)
    if slowest is None or ranks == 1:
        return "-"
    size = next(answer["megabytes"] for answer in answers if key in answer)
    return f"{2 * (ranks - 1) / ranks * size / 1000 / slowest:.2f}"
