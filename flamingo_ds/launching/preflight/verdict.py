"""Which nodes are bad, by what all ranks reported. Pure; rank 0 asks it between the stages.

Every function takes reports by rank, as far as they came, and the node of each rank, and returns reasons by node.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .checks import NodeReport

Bad = dict[str, str]
# A watchdog that is told times by other nodes is wrong beyond it, and logs are hard to read.
MAX_SKEW_SECONDS = 5.0
# In their order; see :mod:`flamingo_ds.collective_probe`.
PHASES = ("importing torch", "waiting", "joining", "reducing on the node", "reducing over all ranks", "done")


def name_missing(reports: Mapping[int, Any], nodes: Sequence[str], seconds: float) -> Bad:
    """Nodes of ranks from which nothing came."""
    return {node: f"no answer within {seconds:.0f} s" for rank, node in enumerate(nodes) if rank not in reports}


def judge_local(reports: Mapping[int, NodeReport], skews: Mapping[int, float]) -> Bad:
    """By disk, clock and versions; of different versions the one that most nodes have is right."""
    bad: Bad = {}
    for report in reports.values():
        if report.problem:
            bad.setdefault(report.node, report.problem)
    for rank, skew in skews.items():
        if abs(skew) > MAX_SKEW_SECONDS and rank in reports:
            bad.setdefault(reports[rank].node, f"its clock is {skew:+.1f} s off that of {reports[0].node}")
    for what in ("python", "torch"):
        found = {report.node: getattr(report, what) for report in reports.values()}
        usual = Counter(found.values()).most_common(1)[0][0]
        for node, version in found.items():
            if version != usual:
                bad.setdefault(node, f"{what} {version}, but {usual} on most nodes")
    return bad


def judge_torch(
    answers: Mapping[int, Mapping[str, Any]], reports: Mapping[int, NodeReport], gpus_per_node: int | None
) -> Bad:
    """By the import of torch and the GPUs that it sees.

    Args:
        answers: ``problem`` or ``gpus`` by rank.
        reports: of the stage before.
        gpus_per_node: that are needed; they are counted only where some node has any, be it on its bus alone.
    """
    bad = {reports[rank].node: answer["problem"] for rank, answer in answers.items() if answer.get("problem")}
    seen: dict[str, list[int]] = {}
    for rank, answer in answers.items():
        seen.setdefault(reports[rank].node, []).append(answer.get("gpus", 0))
    counts = {node: visible_gpus(each) for node, each in seen.items()}
    if gpus_per_node and (any(counts.values()) or any(report.gpus_on_bus for report in reports.values())):
        for node, count in counts.items():
            if count < gpus_per_node:
                bad.setdefault(node, f"torch sees {count} GPUs, not {gpus_per_node}")
    return bad


def visible_gpus(of_each_rank: Sequence[int]) -> int:
    """On a node whose ranks see so many: all of them the same ones, or each one of its own (``--gpus-per-task=1``)."""
    return sum(of_each_rank) if max(of_each_rank) == 1 else max(of_each_rank)


def judge_together(answers: Mapping[int, Mapping[str, Any]], reports: Mapping[int, NodeReport]) -> Bad:
    """By the reductions: those that did not come as far as the others, if they are the smaller part.

    A rank that waits for another is where all the others are, so that one alone behind them is the cause.
    """
    reached = {rank: PHASES.index(answer["phase"]) for rank, answer in answers.items()}
    first = min(reached.values())
    behind = {
        reports[rank].node: answers[rank].get("problem") or "stuck" for rank, phase in reached.items() if phase == first
    }
    nodes = {report.node for report in reports.values()}
    if PHASES[first] == "done" or 2 * len(behind) >= len(nodes):
        return {}
    return {node: f"{PHASES[first]}: {why}" for node, why in behind.items()}
