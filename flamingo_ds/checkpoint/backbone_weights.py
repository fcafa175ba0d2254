"""A backbone's weights by name, read when they are asked for."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file, get_checkpoint_shard_files

from .mapped_file import MappedFile
from .random_states import drawing_on_cpu
from .stored_tensor import StoredTensor
from .tensor_header import DamagedFileError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# A vision tower may lie inside a whole CLIP or SigLIP.
TOWER = "vision_model."
# GPT-NeoX's head in today's transformers, and in every checkpoint of one.
HEAD = ("lm_head.", "embed_out.")


class BackboneWeights(Protocol):
    """What a frozen model starts with."""

    def stored(self, name: str) -> StoredTensor:
        """A parameter or persistent buffer by its name within the backbone, on the CPU."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is such a tensor."""
        ...


class StreamedWeights:
    """Tensors of safetensors files, mapped and read one at a time; each file is opened once.

    Args:
        files: key of every tensor -> file.
        keys: parameter -> key.
        dtype: what the model's configuration says its weights are; None: as in the file.
    """

    def __init__(self, files: Mapping[str, Path], keys: Mapping[str, str], dtype: torch.dtype | None) -> None:
        self.files, self.keys, self.dtype = files, keys, dtype
        self.opened: dict[Path, MappedFile] = {}

    def stored(self, name: str) -> StoredTensor:
        """See :class:`BackboneWeights`."""
        tensor = self._file(name)[self.keys[name]]
        return StoredTensor(tensor, self.dtype if self.dtype and tensor.is_floating_point() else tensor.dtype)

    def has(self, name: str) -> bool:
        """See :class:`BackboneWeights`."""
        return name in self.keys

    def shape(self, name: str) -> torch.Size:
        """Of a tensor, which is not read for it."""
        return self._file(name).shape(self.keys[name])

    def _file(self, name: str) -> MappedFile:
        path = self.files[self.keys[name]]
        if path not in self.opened:
            self.opened[path] = MappedFile(path)
        if self.keys[name] not in self.opened[path]:
            raise DamagedFileError(f"{path.name} does not hold {self.keys[name]}, as the index says")
        return self.opened[path]


class WholeWeights:
    """A backbone that only its own library can read, or that is drawn at random: in memory from the first question on.

    Args:
        load: builds it.
        seed: of what it draws.
    """

    def __init__(self, load: Callable[[], PreTrainedModel], seed: int) -> None:
        self.load, self.seed = load, seed
        self.state: dict[str, torch.Tensor] = {}

    def stored(self, name: str) -> StoredTensor:
        """See :class:`BackboneWeights`."""
        return StoredTensor.plain(self._whole()[name])

    def has(self, name: str) -> bool:
        """See :class:`BackboneWeights`."""
        return name in self._whole()

    def _whole(self) -> dict[str, torch.Tensor]:
        if not self.state:
            with drawing_on_cpu(self.seed):
                self.state = self.load().state_dict()
        return self.state


def stream(source: str, revision: str | None, model: PreTrainedModel) -> StreamedWeights | None:
    """The weights of a transformers folder or hub name, if its safetensors hold every one under a name that fits.

    None where they do not: other formats, older names. Then ``from_pretrained``, which knows them all, reads the model
    whole and says what is missing.

    Args:
        source, revision: of the weights.
        model: on the meta device; what it asks for.

    Raises:
        ValueError: the weights are quantized: a number of theirs means nothing without its scale.
    """
    if getattr(model.config, "quantization_config", None) is not None:
        raise ValueError("weights that are not quantized; its configuration has a quantization_config")
    files = _files(source, revision)
    keys: dict[str, str] = {}
    for name in model.state_dict():
        fitting = [key for key in _candidates(name, model.base_model_prefix) if key in files]
        if fitting:
            keys[name] = fitting[0]
    weights = StreamedWeights(files, keys, getattr(model.config, "dtype", None))
    wanted = dict(model.named_parameters())
    if any(name not in keys or weights.shape(name) != parameter.shape for name, parameter in wanted.items()):
        return None
    return weights


def load_persistent_buffers(module: nn.Module, weights: BackboneWeights) -> None:
    """Buffers that are part of a backbone's state (a batch norm's statistics), in place."""
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    for name, buffer in module.state_dict().items():
        if name not in parameters and weights.has(name):
            buffer.copy_(weights.stored(name).value())


def _candidates(name: str, prefix: str) -> list[str]:
    """Keys that a parameter may have in a checkpoint: saved with its head or without, alone or inside a whole CLIP."""
    bare = name.removeprefix(f"{prefix}.") if prefix else name
    return [name, bare, f"{prefix}.{name}", TOWER + name, name.replace(*HEAD)]


def _files(source: str, revision: str | None) -> dict[str, Path]:
    options: dict[str, Any] = {"revision": revision, "_raise_exceptions_for_missing_entries": False}
    if index := cached_file(source, INDEX, **options):
        paths, _ = get_checkpoint_shard_files(source, index, revision=revision)
        by_name = {Path(path).name: Path(path) for path in paths}
        weight_map = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"]
        return {key: by_name[file] for key, file in weight_map.items()}
    if single := cached_file(source, SINGLE, **options):
        return dict.fromkeys(MappedFile(Path(single)), Path(single))
    return {}
