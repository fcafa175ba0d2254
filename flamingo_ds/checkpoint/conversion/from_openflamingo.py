"""OpenFlamingo's ``.pt`` files and Otter's folders as training checkpoints.

Their files hold what trained and little else, and no configuration: a recipe says the rest. What of the frozen weights
a file does hold must be what the recipe's bases are.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import CLIPVisionConfig

from ...config import ConfigError, RunConfig
from ...model.decoder_blocks import BLOCK_PATHS
from ..backbone_weights import HEAD
from ..key_table import KeyTable
from ..open_clip_vision import to_transformers_names
from ..openflamingo_names import openflamingo_table, otter_table
from ..stored_tensor import StoredTensor
from .folder import require_free
from .folder_tensors import FolderTensors, load_pickle
from .new_checkpoint import Target, is_checkpoint, write_checkpoint
from .openflamingo_rules import require_openflamingo, their_row

VISION = "vision_encoder."


def checkpoint_from_openflamingo(path: Path, out: Path, recipe: RunConfig) -> list[str]:
    """Write ``out`` as a checkpoint of step 0 that ``--resume`` takes.

    Args:
        path: a ``.pt`` of what trained or of the whole model, or Otter's folder.
        out: complete at the end or untouched.
        recipe: of the same model in ``openflamingo`` style.

    Returns:
        What a user should know of the result.

    Raises:
        ConfigError: another model, another base, or a damaged file.
    """
    require_free(out, is_checkpoint)
    target = Target.of(recipe)
    require_openflamingo(target.config)
    reader = _Reader(target, _read(path, target))
    reader.require_same_base()
    write_checkpoint(out, target, reader.find, path.name)
    return reader.notes


def _read(path: Path, target: Target) -> dict[str, torch.Tensor]:
    """Their tensors by OpenFlamingo's names."""
    if path.is_dir():
        tensors: Mapping[str, torch.Tensor] = FolderTensors(path)
        return _renamed(otter_table(_block_path(target)), tensors)
    content = load_pickle(path)
    state = content.get("model_state_dict", content)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ConfigError("file", str(path), "a state dict, alone or as model_state_dict")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


class _Reader:
    """Finds our weights among theirs."""

    def __init__(self, target: Target, state: dict[str, torch.Tensor]) -> None:
        self.target, self.notes = target, list[str]()
        names = {id(parameter): name for name, parameter in target.model.named_parameters()}
        self.embedding = names[id(target.model.get_input_embeddings().weight)]
        self.head = names[id(target.model.get_output_embeddings().weight)]
        vision = {name.removeprefix(VISION): state.pop(name) for name in list(state) if name.startswith(VISION)}
        self.tensors = {
            **_renamed(openflamingo_table(_block_path(target)), state),
            **{f"vision_model.{name}": tensor for name, tensor in self._vision(vision).items()},
        }
        if self.head not in self.tensors and self.head.replace(*HEAD) in self.tensors:
            self.tensors[self.head] = self.tensors.pop(self.head.replace(*HEAD))
        self._require_known(set(names.values()))

    def find(self, name: str) -> list[StoredTensor]:
        """See :data:`~.new_checkpoint.FindTrained`."""
        first = self.target.config.first_new_token_id
        if name == "new_token_embedding.weight":
            return self._new_rows(self.embedding)
        if name == "new_token_head.weight":
            if self.head in self.tensors and self.tensors[self.head].shape[0] > first:
                return self._new_rows(self.head)
            self.notes.append(f"{name}: the file has no rows for new tokens in its head; drawn anew")
            return [self.target.initial.stored(name)]
        if name not in self.tensors:
            raise ConfigError("file", name, "its weights; the recipe's model trains it and the file has none")
        found = StoredTensor.plain(self.tensors[name])
        if name in (self.embedding, self.head):
            return [found.rows(0, first), self.target.initial.stored(name).rows(first)]
        return [found]

    def require_same_base(self) -> None:
        """Where the file has frozen weights, they must be those of the recipe's base."""
        first = self.target.config.first_new_token_id
        for name, parameter in self.target.model.named_parameters():
            if parameter.requires_grad or name not in self.tensors:
                continue
            theirs, ours = StoredTensor.plain(self.tensors[name]), self.target.initial.stored(name)
            if name in (self.embedding, self.head):
                theirs, ours = theirs.rows(0, first), ours.rows(0, first)
            if not ours.equals(theirs, theirs.dtype):
                raise ConfigError("file", name, "the frozen weights of the recipe's base; they are others there")

    def _new_rows(self, name: str) -> list[StoredTensor]:
        if name not in self.tensors:
            raise ConfigError("file", name, "the rows of its new tokens; the file has none")
        config, whole = self.target.config, StoredTensor.plain(self.tensors[name])
        first = config.first_new_token_id
        tokens = self.target.processor.tokenizer.convert_ids_to_tokens(range(first, first + config.num_new_tokens))
        rows = [their_row(token, first) for token in tokens]
        if whole.shape[0] <= max(rows):
            expected = f"{max(rows) + 1} rows or more: {first} of the recipe's tokenizer and its new tokens"
            raise ConfigError("file", f"{name} of {whole.shape[0]} rows", expected)
        return [whole.rows(row, row + 1) for row in rows]

    def _vision(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """open_clip's names, or those of transformers' CLIP in Otter's folders."""
        if not state or not isinstance(self.target.model.vision_model.config, CLIPVisionConfig):
            return {}
        if any(name.startswith("vision_model.") for name in state):
            return {name.removeprefix("vision_model."): tensor for name, tensor in state.items()}
        try:
            return to_transformers_names(state)
        except ValueError as error:
            raise ConfigError("file", VISION, f"open_clip's ViT; {error}") from error

    def _require_known(self, names: set[str]) -> None:
        buffers = {name for name, _ in self.target.model.named_buffers()}
        tied = {name for name, _ in self.target.model.named_parameters(remove_duplicate=False)}
        if odd := sorted(self.tensors.keys() - names - buffers - tied):
            gated = ", ".join(map(str, self.target.config.gated_block_indices))
            expected = f"weights of the recipe's model, whose gated blocks stand before LM blocks {gated}"
            raise ConfigError("file", odd[0], expected)


def _renamed(table: KeyTable, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    try:
        return table.to_ours(tensors)
    except ValueError as error:
        raise ConfigError("file", "names", f"those of OpenFlamingo; {error}") from error


def _block_path(target: Target) -> str:
    family = target.config.text_config.model_type
    if family not in BLOCK_PATHS:
        raise ConfigError("model.language_model", family, f"one of {', '.join(sorted(BLOCK_PATHS))}")
    return BLOCK_PATHS[family]
