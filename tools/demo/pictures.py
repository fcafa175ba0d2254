"""The demo's two pictures: digits with their captions, and the course of the training."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot
from PIL import Image

from demo.captions import digit_of

ROWS, COLUMNS = 5, 8


def draw_captions(images: list[Image.Image], captions: list[str], digits: list[int], path: Path) -> None:
    """A sheet of digits, each above its caption; wrong captions come first and are red."""
    wrong = [index for index, text in enumerate(captions) if digit_of(text) != digits[index]]
    right = [index for index in range(len(images)) if index not in wrong]
    figure, axes = pyplot.subplots(ROWS, COLUMNS, figsize=(2.1 * COLUMNS, 1.75 * ROWS))
    for axis in axes.flat:
        axis.axis("off")
    for axis, index in zip(axes.flat, wrong + right, strict=False):
        axis.imshow(images[index].convert("L"), cmap="gray_r")
        axis.set_title(captions[index], fontsize=8, color="firebrick" if index in wrong else "black", y=-0.2)
    shown = min(len(wrong), ROWS * COLUMNS)
    figure.suptitle(f"{len(images)} held-out digits, {len(wrong)} captioned wrongly ({shown} of them shown, in red)")
    _save(figure, path)


def draw_training(metrics: Path, path: Path) -> None:
    """Over steps: loss of each dataset, loss of the probe on held-out digits, tanh of each gate."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    figure, (losses, probe, gates) = pyplot.subplots(1, 3, figsize=(16, 4))
    _draw_curves(losses, lines, "loss/")
    losses.set(title="loss by dataset", xlabel="step", ylabel="cross-entropy, nats a token")
    _draw_curves(probe, lines, "probe/digits/", marker="o")
    probe.set(title="held-out digits: as they are, blank, shuffled, behind 4 others", xlabel="step")
    _draw_curves(gates, lines, "gate/")
    gates.set(title="tanh of each gate, by block", xlabel="step")
    gates.axhline(0, color="gray", linewidth=0.8)
    _save(figure, path)


def _draw_curves(axis: pyplot.Axes, lines: list[dict[str, float]], prefix: str, marker: str = "") -> None:
    """Every metric whose name begins so, where it was measured."""
    for name in dict.fromkeys(name for line in lines for name in line if name.startswith(prefix)):
        measured = [line for line in lines if name in line]
        steps, values = [line["step"] for line in measured], [line[name] for line in measured]
        axis.plot(steps, values, marker=marker, label=name.removeprefix(prefix))
    if axis.lines:
        axis.legend()


def _save(figure: pyplot.Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
