"""A checkpoint on disk as a run of one process writes it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from flamingo_ds.checkpoint.fingerprint import fingerprint, frozen_names
from flamingo_ds.checkpoint.pretrained import TokenIds, build_model, build_processor, describe_model
from flamingo_ds.checkpoint.publish import SaveInput
from flamingo_ds.checkpoint.retention import Retention
from flamingo_ds.checkpoint.saver import CheckpointSaver
from flamingo_ds.checkpoint.store import Checkpoint
from flamingo_ds.checkpoint.stored_tensor import StoredTensor
from flamingo_ds.config import RunConfig
from flamingo_ds.model import FlamingoForConditionalGeneration, FlamingoProcessor
from tests.saving import StateEngine
from tests.tiny import tiny_recipe, write_tiny_backbones


@dataclass(frozen=True)
class Saved:
    """A model after some training, and the checkpoint that was written of it."""

    model: FlamingoForConditionalGeneration
    processor: FlamingoProcessor
    recipe: RunConfig
    path: Path
    content: SaveInput
    state: dict[str, dict[str, torch.Tensor]]

    def copy(self, to: Path) -> Path:
        """The checkpoint somewhere else, to be damaged."""
        return Path(shutil.copytree(self.path, to))

    def load(self) -> Checkpoint:
        """As a run that goes on from it does."""
        return Checkpoint(self.path)


@pytest.fixture(scope="session")
def saved(tmp_path_factory, alone):
    """One for all tests, which leave it as it is."""
    folder = tmp_path_factory.mktemp("run")
    recipe = tiny_recipe(folder, write_tiny_backbones(folder / "backbones"))
    processor = build_processor(recipe.model)
    config = describe_model(recipe.model, TokenIds.of(processor))
    model = build_model(config, recipe.model, recipe.seed)
    base = fingerprint(
        frozen_names(model), lambda name: StoredTensor.plain(model.get_parameter(name)), recipe.model
    ).to_json()
    state = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # As if trained: not what the seed gives.
            parameter.data += 0.01 * torch.randn_like(parameter)
            moments = {"exp_avg": torch.randn_like(parameter), "exp_avg_sq": torch.rand_like(parameter)}
            state[name] = {"weight": parameter.detach().clone(), **moments}
    content = SaveInput(2, recipe, config, processor, base, "one process")
    data = {"mixture": {"pairs": {"shard": 3}}}
    saver = CheckpointSaver(folder / "checkpoints", Retention(), False, 0)
    (folder / "checkpoints").mkdir()
    saver.save(content, StateEngine(state), {"logits": torch.ones(2, 3)}, data)
    path = saver.saved().path
    return Saved(model.eval(), processor, recipe, path, content, state)
