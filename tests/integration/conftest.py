"""A whole training set-up on disk, small enough for seconds: backbones, shards of both formats, a recipe."""

import io
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import webdataset
from omegaconf import OmegaConf

from ..tiny import tiny_image, write_tiny_backbones


@pytest.fixture(autouse=True, scope="module")
def own_signals() -> Iterator[None]:
    """A command keeps its handlers until its process is gone; here the process goes on."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@dataclass(frozen=True)
class Road:
    """Where everything lies."""

    folder: Path
    recipe: Path


def _png(seed: int) -> bytes:
    stream = io.BytesIO()
    tiny_image(seed).save(stream, "png")
    return stream.getvalue()


def write_shards(folder: Path) -> None:
    for shard in range(2):
        with webdataset.TarWriter(str(folder / f"pairs-{shard}.tar")) as tar:
            for number in range(8):
                sample = {"png": _png(number), "txt": f"a picture of a red square {number}".encode()}
                tar.write({"__key__": f"pair-{shard}-{number}", **sample})
        with webdataset.TarWriter(str(folder / f"pages-{shard}.tar")) as tar:
            for number in range(8):
                page = {"texts": [None, "a blue circle", None, "a red square"], "images": [0, None, 1, None]}
                members = {"json": json.dumps(page).encode(), "0.png": _png(number), "1.png": _png(number + 1)}
                tar.write({"__key__": f"page-{shard}-{number}", **members})


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    folder = tmp_path_factory.mktemp("road")
    write_tiny_backbones(folder / "backbones")
    write_shards(folder)
    recipe = {
        "run_dir": str(folder / "run"),
        "model": {
            "language_model": {"source": str(folder / "backbones/lm")},
            "vision_encoder": {"library": "open_clip", "source": f"local-dir:{folder / 'backbones/clip'}"},
            "resampler": {"depth": 1, "latents": 4, "heads": 2, "head_width": 16, "max_frames": 1},
            "gated_cross_attention": {"initial_gate": 0.5},
        },
        "data": {
            "datasets": {
                "pairs": {
                    "format": "image_text",
                    "shards": f"{folder}/pairs-*.tar",
                    "batch_size": 4,
                    "micro_batch_size": 1,
                },
                "pages": {"format": "interleaved", "shards": f"{folder}/pages-*.tar", "batch_size": 2, "weight": 0.5},
            }
        },
        "train": {
            "max_steps": 30,
            "save_every": 10,
            "optimizer": {"learning_rate": 1.0e-3},
            "schedule": {"warmup_steps": 2},
        },
        "parallel": {"activation_checkpointing": "block"},
    }
    path = folder / "recipe.yaml"
    OmegaConf.save(OmegaConf.create(recipe), path)
    return Road(folder, path)
