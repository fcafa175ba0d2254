"""Checkpoints: what trains, the optimizer, every rank's position; nothing that is frozen.

    checkpoints/
      latest -> step-00000200
      step-00000200/
        checkpoint.json         format, step, ranks, layout, fingerprint of the frozen base
        recipe.yaml             the resolved recipe
        model/                  config.json and processor of the model
        weight.safetensors      fp32 master of every trainable parameter, whole, under its canonical name
        exp_avg.safetensors     Adam's first moment, same names
        exp_avg_sq.safetensors  Adam's second moment
        reference.safetensors   a small batch and the training engine's own logits on it
        ranks/0000.json         data position of rank 0
        ranks/0000.pt           its random states

No name, shape or file depends on how the run was laid out over ranks.
"""

import json
import random
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy
import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..config import ConfigError, RunConfig, to_yaml
from ..model import FlamingoConfig, FlamingoProcessor
from .files import PARTIAL_SUFFIX, point_to, publish, write_json

FORMAT = 1
LATEST = "latest"
STATE_FILES = ("weight", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class SaveInput:
    """Everything a checkpoint holds that is the same on all ranks.

    Attributes:
        step: optimizer steps done.
        recipe: resolved.
        model_config, processor: of the model.
        base: fingerprint of the frozen weights, as JSON.
        layout: name of the layout, for people.
    """

    step: int
    recipe: RunConfig
    model_config: FlamingoConfig
    processor: FlamingoProcessor
    base: Mapping[str, Any]
    layout: str


def save_checkpoint(
    folder: Path,
    content: SaveInput,
    state: Iterable[tuple[str, Mapping[str, torch.Tensor]]],
    reference: Mapping[str, torch.Tensor],
    data_state: Mapping[str, Any],
) -> Path:
    """Write ``folder/step-N``, then move ``latest`` to it. Collective.

    Args:
        folder: ``checkpoints`` of the run.
        content: what is the same everywhere.
        state: of the engine; all ranks must walk through it.
        reference: inputs and ``logits``, written by rank 0.
        data_state: this rank's data position, as JSON.

    Returns:
        The new checkpoint.
    """
    target = folder / step_name(content.step)
    partial = target.with_name(target.name + PARTIAL_SUFFIX)
    rank, main = dist.get_rank(), dist.get_rank() == 0
    if main:
        _empty(partial)
    dist.barrier()
    write_json(partial / "ranks" / f"{rank:04d}.json", data_state)
    torch.save(_random_states(), partial / "ranks" / f"{rank:04d}.pt")
    tensors: dict[str, dict[str, torch.Tensor]] = {name: {} for name in STATE_FILES}
    for name, parts in state:
        if main:
            for kind in STATE_FILES:
                tensors[kind][name] = parts[kind].contiguous()
    if main:
        for kind in STATE_FILES:
            save_file(tensors[kind], partial / f"{kind}.safetensors")
        save_file({name: tensor.contiguous() for name, tensor in reference.items()}, partial / "reference.safetensors")
        content.model_config.save_pretrained(partial / "model")
        content.processor.save_pretrained(partial / "model")
        (partial / "recipe.yaml").write_text(to_yaml(content.recipe), encoding="utf-8")
        about = {
            "format": FORMAT,
            "step": content.step,
            "ranks": dist.get_world_size(),
            "layout": content.layout,
            "base": dict(content.base),
        }
        write_json(partial / "checkpoint.json", about)
    dist.barrier()
    if main:
        publish(partial, target)
        point_to(folder / LATEST, target.name)
    dist.barrier()
    return target


class Checkpoint:
    """A checkpoint on disk; tensors are read when asked for.

    Raises:
        ConfigError: not a checkpoint, of another format, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        about = self.path / "checkpoint.json"
        if not about.is_file():
            raise ConfigError("checkpoint", str(path), "a checkpoint folder; it has no checkpoint.json")
        self.about = _read_json(about)
        if self.about.get("format") != FORMAT:
            raise ConfigError("checkpoint", str(path), f"format {FORMAT}; it has format {self.about.get('format')}")
        if not isinstance(self.about.get("step"), int):
            raise ConfigError("checkpoint", str(about), "a file that says how many steps were done")
        self.step: int = self.about["step"]

    def weights(self) -> dict[str, torch.Tensor]:
        """fp32 masters by canonical name, mapped from the file."""
        return self._read("weight")

    def state(self) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        """As the engine's ``full_state`` gave it."""
        parts = {kind: self._read(kind) for kind in STATE_FILES}
        for name in parts["weight"]:
            yield name, {kind: parts[kind][name] for kind in STATE_FILES}

    def reference(self) -> dict[str, torch.Tensor]:
        """A batch's tensors and the training engine's ``logits`` on them."""
        return self._read("reference")

    def data_state(self, rank: int) -> dict[str, Any]:
        """A rank's data position."""
        return _read_json(self.path / "ranks" / f"{rank:04d}.json")

    def data_states(self) -> list[dict[str, Any]]:
        """The data positions of all ranks of the saved run, in their order."""
        return [self.data_state(rank) for rank in range(self.about["ranks"])]

    def restore_random_states(self, rank: int) -> None:
        """Put this process's random generators back to where they were."""
        path = self.path / "ranks" / f"{rank:04d}.pt"
        try:
            states = torch.load(path, weights_only=True)
        except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
            raise ConfigError("checkpoint", str(path), f"a rank's random states: {type(error).__name__}") from error
        torch.set_rng_state(states["torch"])
        if states["device"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(states["device"])
        version, internal, gauss = states["python"]
        random.setstate((version, tuple(internal), gauss))
        kind, keys, position, has_gauss, cached = states["numpy"]
        numpy.random.set_state((kind, numpy.array(keys, dtype=numpy.uint32), position, has_gauss, cached))

    def _read(self, kind: str) -> dict[str, torch.Tensor]:
        path = self.path / f"{kind}.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ConfigError("checkpoint", str(path), f"a whole safetensors file: {error}") from error


def find_checkpoint(folder: Path, asked: str | None) -> Checkpoint | None:
    """The checkpoint to go on from.

    Args:
        folder: ``checkpoints`` of the run.
        asked: a checkpoint's path; empty for the latest of the run; None to start afresh.

    Returns:
        None where there is nothing to go on from and none was named.

    Raises:
        ConfigError: the named one is none; or a fresh start where there are checkpoints.
    """
    latest = folder / LATEST
    if asked:
        return Checkpoint(Path(asked))
    if asked is None and latest.exists():
        raise ConfigError(
            "run_dir", str(folder.parent), f"a new folder, or --resume to go on from {latest.resolve().name}"
        )
    return Checkpoint(latest) if latest.exists() else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError("checkpoint", str(path), f"valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError("checkpoint", str(path), f"a JSON object; it is a {type(content).__name__}")
    return content


def step_name(step: int) -> str:
    """``step-00000200``."""
    return f"step-{step:08d}"


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "ranks").mkdir(parents=True)


def _random_states() -> dict[str, Any]:
    """All generators' states, of types that ``torch.load(weights_only=True)`` reads."""
    kind, keys, position, has_gauss, cached = numpy.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "python": random.getstate(),
        "numpy": (kind, numpy.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)),
    }
