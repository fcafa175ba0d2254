"""The tensors of a model folder, whichever of the hub's two formats it has."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch

from ...config import ConfigError
from ..mapped_file import MappedFile
from ..tensor_header import DamagedFileError


class FolderTensors(Mapping[str, torch.Tensor]):
    """All safetensors files of a folder as one mapping; where there are none, its ``pytorch_model*.bin``.

    Raises:
        ConfigError: no such files, or damaged ones.
    """

    def __init__(self, folder: Path) -> None:
        self._holders: dict[str, Mapping[str, torch.Tensor]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            try:
                file = MappedFile(path)
            except (OSError, DamagedFileError) as error:
                raise ConfigError("MODEL", str(path), f"a whole safetensors file; {error}") from error
            self._holders |= dict.fromkeys(file, file)
        for path in [] if self._holders else sorted(folder.glob("pytorch_model*.bin")):
            state = load_pickle(path)
            self._holders |= dict.fromkeys(state, state)
        if not self._holders:
            raise ConfigError("MODEL", str(folder), "a folder with weights (*.safetensors or pytorch_model*.bin)")

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._holders[name][name]

    def __contains__(self, name: object) -> bool:
        return name in self._holders

    def __iter__(self) -> Iterator[str]:
        return iter(self._holders)

    def __len__(self) -> int:
        return len(self._holders)


def load_pickle(path: Path) -> dict[str, Any]:
    """A dictionary that torch saved, its tensors mapped (read, in a file of before torch 1.6); nothing in it is run.

    Raises:
        ConfigError: it is not there, damaged, no dictionary, or holds more than tensors and plain values.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except UnpicklingError as error:  # torch's text invites to run what it refused
        raise ConfigError(
            "file", str(path), "a whole file of torch.save with nothing but tensors and plain values"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError("file", str(path), f"a whole file of torch.save; {reason}") from error
    if not isinstance(content, dict):
        raise ConfigError("file", str(path), f"a dictionary of tensors; it is a {type(content).__name__}")
    return content
