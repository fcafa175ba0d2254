"""Gather the scores of all seeds and variants in report.json, and draw them."""

import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from few_shot.evaluate import BALANCED_NOISE, BALANCED_SHOTS, GRADED_NOISE, GRADED_SHOTS
from few_shot.intervals import wilson
from few_shot.pictures import draw_ablations, draw_curves, draw_prompt
from few_shot.variants import MODEL, PAPER

PACKAGES = ("torch", "deepspeed", "transformers", "open_clip_torch", "scikit-learn")


def write_report(
    root: Path, models: dict[str, tuple[int, ...]], seconds: dict[str, float], wall: float
) -> dict[str, Any]:
    """ROOT/report.json and three pictures beside it.

    Args:
        root: of the proof, with seed-S/VARIANT/scores.json.
        models: seeds that each variant was trained with.
        seconds: of each job.
        wall: seconds of everything.
    """
    seeds = models[MODEL]
    scores = {
        variant: [read(root / f"seed-{seed}" / variant / "scores.json") for seed in some]
        for variant, some in models.items()
    }
    report: dict[str, Any] = {"command": " ".join(["python", *sys.argv]), "commit": commit(), **surroundings()}
    report |= {"seconds": {"all": wall, **seconds}, "split": scores[MODEL][0]["split"], "seeds": list(seeds)}
    report["held_out_digits"] = [one["held_out_digits"] for one in scores[MODEL]]
    report["language_model"] = [read(root / f"seed-{seed}" / "lm" / "induction.json") for seed in seeds]
    report["vision_encoder"] = [read(root / f"seed-{seed}" / "clip" / "accuracy.json") for seed in seeds]
    figures = {variant: gather([one["settings"] for one in of_seeds]) for variant, of_seeds in scores.items()}
    report |= {name: figure for name, figure in figures[MODEL].items() if not name.startswith(("graded_", "balanced_"))}
    curves = {"graded": (GRADED_SHOTS, GRADED_NOISE), "balanced": (BALANCED_SHOTS, BALANCED_NOISE)}
    for name, (every, noise) in curves.items():
        report[f"{name}_curve"] = [{"shots": shots, **figures[MODEL][f"{name}_{shots}"]} for shots in every]
        report[f"{name}_noise"] = noise
    report["ablations"] = {
        variant: {"paper_overall": PAPER.get(variant), "seeds": list(some), **figures[variant]}
        for variant, some in models.items()
        if variant != MODEL
    }
    (root / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    draw_curves(report, root / "curves.png")
    draw_ablations(report, root / "ablations.png")
    draw_prompt(seeds[0], root / "prompt.png")
    told = {name: report[name]["median"] for name in ("zero_shot", "two_way_4_shot", "four_way_8_shot")}
    print(f"medians of {len(seeds)} seeds: {told}; {wall:.0f} s; look at {root}/report.json", flush=True)
    return report


def gather(of_seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Each setting's figures over seeds; the interval is of all episodes together."""
    figures = {}
    for name, first in of_seeds[0].items():
        accuracies = [one[name]["accuracy"] for one in of_seeds]
        episodes = sum(one[name]["episodes"] for one in of_seeds)
        right = sum(round(one[name]["accuracy"] * one[name]["episodes"]) for one in of_seeds)
        figures[name] = {
            "per_seed": accuracies,
            "median": statistics.median(accuracies),
            "min": min(accuracies),
            "max": max(accuracies),
            "accuracy": round(right / episodes, 4),
            "interval": wilson(right, episodes),
            "told": first["told"],
            "where_told_per_seed": [one[name]["accuracy_where_told"] for one in of_seeds],
            "free_per_seed": [one[name]["free"] for one in of_seeds],
            "chance": first["chance"],
            "episodes": episodes,
        }
    return figures


def read(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def commit() -> str | None:
    """Of the checkout, with ``+`` where something is changed; None outside of one."""
    told = subprocess.run(["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False)
    return told.stdout.strip() or None


def surroundings() -> dict[str, Any]:
    """Machine and versions."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "machine": f"{os.cpu_count()} x {models[0].partition(': ')[2]}" if models else platform.processor(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
