"""Which kind of model a path or name is."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig

from ...checkpoint.names import ABOUT, LATEST
from ...config import ConfigError
from ...model import FlamingoConfig
from .chat import ChatSource
from .identity import one_line
from .model import KEY, ModelSource
from .ours import CheckpointSource, ExportSource

EXPECTED = "a training checkpoint, an exported folder, or an image-text model of transformers"


def open_model(name: str, trust_remote_code: bool = False) -> ModelSource:
    """What a name on the command line means; nothing of its weights is read.

    Args:
        name: a folder, or the name of a model on a hub.
        trust_remote_code: run code that comes with a model of others.

    Raises:
        ConfigError: nothing that can be evaluated.
    """
    path = Path(name)
    if (path / ABOUT).is_file() or path.name == LATEST:
        return CheckpointSource(path)
    if path.is_dir() or name.startswith((".", "/", "~")) or Path(path.parts[0]).is_dir():
        _require_config(path)
    config = _read_config(name, trust_remote_code)
    if config.model_type == FlamingoConfig.model_type:
        return ExportSource(name)
    return ChatSource(name, config, trust_remote_code)


def _require_config(path: Path) -> None:
    if not path.is_dir():
        raise ConfigError(KEY, str(path), f"{EXPECTED}; there is no such folder")
    if (path / "checkpoints").is_dir():
        raise ConfigError(KEY, str(path), f"a checkpoint of this run, such as {path / 'checkpoints' / LATEST}")
    if not (path / "config.json").is_file():
        raise ConfigError(KEY, str(path), f"{EXPECTED}; this folder has neither {ABOUT} nor config.json")


def _read_config(name: str, trust_remote_code: bool) -> Any:
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(KEY, name, f"{EXPECTED}: {one_line(error)}") from error
