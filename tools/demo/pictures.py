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
    """Loss of each dataset and tanh of each gate over steps."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    steps = [line["step"] for line in lines]
    figure, (losses, gates) = pyplot.subplots(1, 2, figsize=(11, 4))
    for name in lines[0]:
        if name.startswith("loss/"):
            losses.plot(steps, [line[name] for line in lines], label=name.removeprefix("loss/"))
        if name.startswith("gate/"):
            _, block, kind = name.split("/")
            gates.plot(steps, [line[name] for line in lines], label=f"block {block}, {kind}")
    losses.set(title="loss by dataset", xlabel="step", ylabel="cross-entropy, nats a token")
    gates.set(title="tanh of each gate", xlabel="step")
    gates.axhline(0, color="gray", linewidth=0.8)
    for axis in (losses, gates):
        axis.legend()
    _save(figure, path)


def _save(figure: pyplot.Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
