"""The tensors of a checkpoint, each read when it is asked for.

A kind of tensor (weights, first moments, second moments) lies in one file for each rank that wrote some, with an index
as Hugging Face writes it: ``{"metadata": {"total_size": BYTES}, "weight_map": {NAME: FILE}}``. Files are mapped into
memory and opened once, so what nobody asks for is never read.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from ..config import ConfigError
from .json_files import read_json
from .mapped_file import MappedFile
from .names import STATE_KINDS, STEP, index_name
from .tensor_header import DamagedFileError


class TensorFiles(Mapping[str, torch.Tensor]):
    """Tensors of one kind by canonical name, views of mapped files: copy them, do not change them.

    Args:
        folder: of the checkpoint.
        kind: of the tensors.
        step: of the checkpoint.

    Raises:
        ConfigError: the index is damaged, or a file is missing, truncated or another checkpoint's, here or when a
            tensor is asked for.
    """

    def __init__(self, folder: Path, kind: str, step: int) -> None:
        self._step = str(step)
        self._folder, self._index = folder, folder / index_name(kind)
        self._file_of = self._read_index()
        self._open_files: dict[str, MappedFile] = {}

    def __getitem__(self, name: str) -> torch.Tensor:
        file = self._file_of[name]
        try:
            if file not in self._open_files:
                self._open_files[file] = MappedFile(self._folder / file)
        except (OSError, DamagedFileError) as error:
            raise ConfigError("checkpoint", str(self._folder / file), f"a whole safetensors file; {error}") from error
        saved = self._open_files[file].metadata.get(STEP, self._step)
        if saved != self._step:
            raise ConfigError("checkpoint", str(self._folder / file), f"a file of step {self._step}, not {saved}")
        if name not in self._open_files[file]:
            raise ConfigError("checkpoint", str(self._folder / file), f"the file of {name}, as {self._index.name} says")
        return self._open_files[file][name]

    def __contains__(self, name: object) -> bool:
        return name in self._file_of  # Mapping's own would read the tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)

    def _read_index(self) -> dict[str, str]:
        file_of = read_json(self._index).get("weight_map")
        if not isinstance(file_of, dict) or not all(isinstance(file, str) for file in file_of.values()):
            raise ConfigError("checkpoint", str(self._index), "an index with a weight_map of names and files")
        # One listing: asking for each file alone would be many questions to a shared file system from many ranks.
        if missing := sorted(set(file_of.values()) - set(os.listdir(self._folder))):
            raise ConfigError("checkpoint", str(self._folder / missing[0]), f"a file, as {self._index.name} says")
        return file_of


class StateFiles(Mapping[str, Mapping[str, torch.Tensor]]):
    """Canonical name to ``weight``, ``exp_avg`` and ``exp_avg_sq``; see :class:`TensorFiles`.

    Raises:
        ConfigError: as there, or the kinds have other names.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._kinds = {kind: TensorFiles(folder, kind, step) for kind in STATE_KINDS}
        weights = self._kinds[STATE_KINDS[0]]
        for kind, tensors in self._kinds.items():
            if odd := sorted(weights.keys() ^ tensors.keys()):
                raise ConfigError(
                    "checkpoint", str(folder / index_name(kind)), f"the names of {STATE_KINDS[0]}; {odd[0]} is in one"
                )

    def __getitem__(self, name: str) -> Mapping[str, torch.Tensor]:
        if name not in self._kinds[STATE_KINDS[0]]:
            raise KeyError(name)
        return _Parts(self._kinds, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds[STATE_KINDS[0]])

    def __len__(self) -> int:
        return len(self._kinds[STATE_KINDS[0]])


class _Parts(Mapping[str, torch.Tensor]):
    """One parameter's tensors by kind."""

    def __init__(self, kinds: Mapping[str, TensorFiles], name: str) -> None:
        self._kinds, self._name = kinds, name

    def __getitem__(self, kind: str) -> torch.Tensor:
        return self._kinds[kind][self._name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)
