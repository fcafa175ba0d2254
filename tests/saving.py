"""The least that a checkpoint can be made of, and how to tell one from another."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

from flamingo_ds.checkpoint.publish import SaveInput
from flamingo_ds.checkpoint.retention import Retention
from flamingo_ds.checkpoint.saver import CheckpointSaver
from flamingo_ds.checkpoint.store import Checkpoint
from flamingo_ds.config import RunConfig

NAMES = ("first", "second", "third")


class StateEngine:
    """As much of an engine as a saver asks for: a state, and this rank's place among those that have the same."""

    def __init__(self, state: dict[str, dict[str, torch.Tensor]], place: tuple[int, int] | None = None) -> None:
        self.state, self.place = state, place

    def full_state(self) -> Any:
        yield from self.state.items()

    def share(self) -> tuple[int, int]:
        return self.place or (dist.get_rank(), dist.get_world_size())


def flat_state(value: float, names: Sequence[str] = NAMES) -> dict[str, dict[str, torch.Tensor]]:
    """Parameters of 2, 4, 6, ... numbers, each of which is ``value``."""
    return {
        name: {kind: torch.full((number + 1, 2), value) for kind in ("weight", "exp_avg", "exp_avg_sq")}
        for number, name in enumerate(names)
    }


def content(step: int) -> SaveInput:
    """What is the same on all ranks."""
    model: Any = SimpleNamespace(save_pretrained=lambda folder: Path(folder, "config.json").write_text("{}"))
    recipe = RunConfig(run_dir="run")
    recipe.data.datasets = {}
    recipe.train.max_steps = 1
    return SaveInput(step, recipe, model, model, {}, "tiny")


def begin(saver: CheckpointSaver, step: int, value: float) -> None:
    """Start to save a flat state."""
    saver.save(content(step), StateEngine(flat_state(value)), {"logits": torch.full((2,), value)}, {"value": value})


def save(folder: Path, step: int, value: float, retention: Retention | None = None) -> None:
    """A whole save, by a saver of its own."""
    saver = CheckpointSaver(folder, retention or Retention(), True, dist.get_rank())
    begin(saver, step, value)
    saver.finish()


def value_of(path: Path) -> float:
    """The one value of a whole checkpoint, read in every way."""
    checkpoint = Checkpoint(path)
    state = checkpoint.state()
    assert set(state) == set(NAMES)
    tensors = [tensor for parts in state.values() for tensor in parts.values()]
    values = {value for tensor in [*tensors, checkpoint.reference()["logits"]] for value in tensor.flatten().tolist()}
    values |= {state["value"] for state in checkpoint.data_states()}
    assert checkpoint.restore_random_states(0, checkpoint.ranks)
    assert (checkpoint.path / "model/config.json").read_text() == "{}"
    assert (checkpoint.path / "recipe.yaml").is_file()
    assert len(values) == 1
    return values.pop()
