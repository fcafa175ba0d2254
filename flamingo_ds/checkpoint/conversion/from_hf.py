"""A published folder of this project back into a training checkpoint.

What trained is taken from the folder, in its precision. What is frozen stays where it came from, and must be what the
folder holds, or the folder was not trained on that base.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from ...config import ConfigError, load_recipe
from ...model import FlamingoProcessor
from ..stored_tensor import StoredTensor
from .folder import require_free
from .folder_tensors import FolderTensors
from .hf_folder import RECIPE
from .new_checkpoint import Target, is_checkpoint, write_checkpoint


def checkpoint_from_hf(folder: Path, out: Path, overrides: list[str]) -> Path:
    """Write ``out`` as a checkpoint of step 0 that ``--resume`` takes.

    Args:
        folder: an export of this project, whole or of what trains alone.
        out: complete at the end or untouched.
        overrides: of the recipe that lies in the folder, such as another place of the base.

    Raises:
        ConfigError: no such folder, another base, or tensors that do not fit.
    """
    if not (folder / RECIPE).is_file():
        raise ConfigError("MODEL", str(folder), f"a folder that tools/convert_to_hf.py wrote; it has no {RECIPE}")
    require_free(out, is_checkpoint)
    tensors = FolderTensors(folder)
    recipe = load_recipe(str(folder / RECIPE), overrides)
    target = Target.of(recipe, FlamingoProcessor.from_pretrained(folder))
    _require_same_frozen(target, tensors, folder)
    return write_checkpoint(out, target, lambda name: _trained(target, tensors, name), folder.name)


def _trained(target: Target, tensors: Mapping[str, torch.Tensor], name: str) -> list[StoredTensor]:
    """A trained weight in the folder: under its own name, or rows of the merged matrix."""
    if name in tensors:
        return [StoredTensor.plain(tensors[name])]
    model, config = target.model, target.config
    merged = {
        "new_token_embedding.weight": model.get_input_embeddings(),
        "new_token_head.weight": model.get_output_embeddings(),
    }
    whole = ""
    if name in merged:
        whole = next(key for key, parameter in model.named_parameters() if parameter is merged[name].weight)
    if whole not in tensors:
        raise ConfigError("MODEL", name, "a tensor of that name in the folder")
    first = config.first_new_token_id
    return [StoredTensor.plain(tensors[whole]).rows(first, first + config.num_new_tokens)]


def _require_same_frozen(target: Target, tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Where the folder has frozen weights, they must be those of the recipe's base."""
    model, first = target.model, target.config.first_new_token_id
    end = first + target.config.num_new_tokens
    merged = {id(module.weight) for module in (model.get_input_embeddings(), model.get_output_embeddings())}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or name not in tensors:
            continue
        theirs, ours = StoredTensor.plain(tensors[name]), target.initial.stored(name)
        rows = [(theirs, ours)]
        if id(parameter) in merged:
            rows = [(theirs.rows(0, first), ours.rows(0, first)), (theirs.rows(end), ours.rows(end))]
        if not all(our.equals(their, theirs.dtype) for their, our in rows):
            raise ConfigError("MODEL", str(folder), f"the base that its recipe names; {name} is another there")
