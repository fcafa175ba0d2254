"""Score over shots, with intervals."""

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...config import ConfigError
from ..results import Report
from .series import Series, all_series

PANELS_A_ROW = 3


def require_matplotlib() -> None:
    """To be asked before anything is computed.

    Raises:
        ConfigError: it is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("matplotlib", None, "it for plots: pip install 'flamingo_ds[eval]'")


def draw_scores(reports: Mapping[str, Report], path: Path) -> None:
    """A panel for the own (first) score of each task, a line for each model.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    require_matplotlib()
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    panels = _panels(reports)
    shots = sorted({count for panel in panels for series in panel for count in series.points})
    columns = min(PANELS_A_ROW, len(panels)) or 1
    rows = math.ceil(len(panels) / columns) or 1
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.6 * columns, 3.6 * rows), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for panel, axis in zip(panels, axes.flat, strict=False):
        _draw(panel, shots, axis)
    if len(reports) > 1 and panels:
        pairs = (pair for axis in axes.flat for pair in zip(*axis.get_legend_handles_labels(), strict=True))
        handles = {name: handle for handle, name in pairs}
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=2, frameon=False)
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _panels(reports: Mapping[str, Report]) -> list[list[Series]]:
    """For each task the series of its first score."""
    found: dict[str, list[Series]] = {}
    for series in all_series(reports):
        panel = found.setdefault(series.task, [])
        if not panel or panel[0].score == series.score:
            panel.append(series)
    return list(found.values())


def _draw(panel: list[Series], shots: list[int], axis: Any) -> None:
    """Shots stand at equal distances, as they are doubled as a rule; models beside each other."""
    for number, series in enumerate(panel):
        points = {count: point for count, point in series.points.items() if not math.isnan(point.value)}
        offset = 0.08 * (number - (len(panel) - 1) / 2)
        places = [shots.index(count) + offset for count in points]
        values = [point.value for point in points.values()]
        below = [max(0.0, point.value - point.low) for point in points.values()]
        above = [max(0.0, point.high - point.value) for point in points.values()]
        if not points:
            continue
        axis.errorbar(places, values, yerr=[below, above], marker="o", markersize=4, capsize=3, label=series.label)
    if not axis.containers:
        axis.text(0.5, 0.5, "undefined", transform=axis.transAxes, ha="center", color="gray")
        axis.set_yticks([])
    axis.set(title=panel[0].task, xlabel="shots", ylabel=panel[0].score.replace("_", " "))
    axis.set_xticks(range(len(shots)), [str(count) for count in shots])
    axis.set_xlim(-0.5, len(shots) - 0.5)
    axis.grid(axis="y", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
