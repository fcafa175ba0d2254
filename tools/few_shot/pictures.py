"""The proof's three pictures: accuracy over shots, the ablations, and a prompt as the model sees it."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot

from few_shot.digits import load_splits
from few_shot.episodes import EpisodeRules
from few_shot.evaluate import GRADED_NOISE

ABLATED = ("two_way_4_shot", "four_way_8_shot", "held_out_2way_4_shot")


def draw_curves(report: dict[str, Any], path: Path) -> None:
    """Accuracy over examples with its interval, and each seed's own: the graded curve, the balanced one beside it."""
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
    for axis, name, text in zip(axes, ("graded", "balanced"), ("drawn at random", "as many of each"), strict=True):
        _draw_curve(axis, report[f"{name}_curve"], report["seeds"])
        chance = report[f"{name}_curve"][0]["chance"]
        axis.set_title(f"{round(1 / chance)} names, examples {text}, noise {report[f'{name}_noise']}", fontsize=10)
    _save(figure, path)


def _draw_curve(axis: Any, curve: list[dict[str, Any]], seeds: list[int]) -> None:
    shots = [point["shots"] for point in curve]
    for number, seed in enumerate(seeds):
        axis.plot(shots, [point["per_seed"][number] for point in curve], linewidth=0.8, label=f"seed {seed}")
    ends = [[point["accuracy"] - point["interval"][0] for point in curve]]
    ends += [[point["interval"][1] - point["accuracy"] for point in curve]]
    axis.errorbar(
        shots, [point["accuracy"] for point in curve], ends, fmt="o-", color="black", capsize=4, label="all, 95 %"
    )
    axis.plot(shots, [point["told"] for point in curve], "--", color="gray", label="query's class among examples")
    axis.axhline(curve[0]["chance"], color="gray", linestyle=":", label="chance")
    axis.set_xscale("log", base=2)
    axis.set_xticks(shots, [str(count) for count in shots])
    axis.set(xlabel="examples in the prompt", ylabel="accuracy", ylim=(0.0, 1.05))
    axis.legend(fontsize=8)


def draw_ablations(report: dict[str, Any], path: Path) -> None:
    """Bars for the model and each ablation: the median of the seeds, with the least and the most."""
    rows = {"model": report, **report["ablations"]}
    figure, axis = pyplot.subplots(figsize=(9, 4.5))
    width = 0.8 / len(ABLATED)
    for place, setting in enumerate(ABLATED):
        heights = [row[setting]["median"] for row in rows.values()]
        ends = [[height - row[setting]["min"] for height, row in zip(heights, rows.values(), strict=True)]]
        ends += [[row[setting]["max"] - height for height, row in zip(heights, rows.values(), strict=True)]]
        places = [index + place * width for index in range(len(rows))]
        axis.bar(places, heights, width, yerr=ends, capsize=2, label=setting.replace("_", " "))
    axis.set_xticks([index + 0.3 for index in range(len(rows))], [name.replace("_", "\n") for name in rows], fontsize=8)
    axis.set(ylabel="accuracy", ylim=(0, 1.15))
    axis.legend(ncols=len(ABLATED), fontsize=8, loc="upper center")
    _save(figure, path)


def draw_prompt(seed: int, path: Path) -> None:
    """Two prompts of the test split, examples and query with the texts below them: a clear one and a noisy one."""
    split = load_splits(seed)["test"]
    figure, axes = pyplot.subplots(2, 5, figsize=(8, 3.6))
    for row, noise in zip(axes, (0.0, GRADED_NOISE), strict=True):
        episode = EpisodeRules(2, 4, noise=noise).draw(split, f"picture {seed}")
        shown = [(image, f"{name}<EOC>") for image, name in episode.examples]
        for axis, (image, text) in zip(row, [*shown, (episode.query, f"? ({episode.answer})")], strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=255)
            axis.set_title(text, fontsize=8, y=-0.22)
            axis.axis("off")
    _save(figure, path)


def _save(figure: pyplot.Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
