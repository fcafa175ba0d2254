"""Hold a report of the proof to what it promises; exit code 1, naming what failed."""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

AT_LEAST = {"two_way_4_shot": 0.95, "four_way_8_shot": 0.9, "held_out_2way_4_shot": 0.85}
"""Medians over the seeds."""
AT_CHANCE = ("zero_shot", "blank_2way_4_shot")
RISE = 0.15
"""Of the graded curve, first to last."""
TEXT = 0.95
"""Text episodes that each language model must answer before anything is made of it."""


def main() -> int:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, nargs="?", default=Path("runs/few-shot/report.json"))
    path = parser.parse_args().report
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        parser.error(f"report = '{path}': expected what tools/few_shot/run.py writes: {error}")
    failed = [f"{what}: {value}; expected {expected}" for what, value, expected in broken(report)]
    for line in failed:
        print(f"error: {line}", file=sys.stderr)
    if not failed:
        print("every promise holds")
    return 1 if failed else 0


def broken(report: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Each promise that does not hold: its name, what there is, what was expected."""
    if len(report["seeds"]) < 3:
        yield "seeds", report["seeds"], "three"
    for number, model in enumerate(report["language_model"]):
        if (least := min(model["text_accuracy"].values())) < TEXT:
            yield f"language_model of seed {report['seeds'][number]}", least, f"at least {TEXT} of text episodes"
    for name, least in AT_LEAST.items():
        if report[name]["median"] < least:
            yield name, report[name]["median"], f"at least {least}"
    for name in AT_CHANCE:
        low, high = report[name]["interval"]
        if not low <= report[name]["chance"] <= high:
            yield name, [low, high], f"an interval with chance, {report[name]['chance']}, in it"
    yield from _graded(report["graded_curve"])


def _graded(curve: list[dict[str, Any]]) -> Iterator[tuple[str, Any, str]]:
    accuracies = [point["accuracy"] for point in curve]
    if any(later <= earlier for earlier, later in itertools.pairwise(accuracies)):
        yield "graded_curve", accuracies, "a rise with every doubling"
    if accuracies[-1] - accuracies[0] < RISE:
        yield "graded_curve", accuracies, f"a rise of at least {RISE}, first to last"
    if curve[0]["interval"][1] >= curve[-1]["interval"][0]:
        yield "graded_curve", [curve[0]["interval"], curve[-1]["interval"]], "first and last interval apart"


if __name__ == "__main__":
    sys.exit(main())
