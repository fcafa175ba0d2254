"""A resumed run must be the same model: other switches may take the same weights and mean something else by them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..config import ConfigError
from ..model import FlamingoConfig

# What says nothing about the function that the weights are of.
FREE = {"_name_or_path", "dtype", "initial_gate", "transformers_version"}


def require_same_model(checkpoint: Path, config: FlamingoConfig) -> None:
    """Refuse a recipe whose model is another than the checkpoint's.

    Args:
        checkpoint: its folder.
        config: of the recipe's model.

    Raises:
        ConfigError: the first key that differs, or a damaged file.
    """
    try:
        saved = FlamingoConfig.from_pretrained(checkpoint / "model")
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError("checkpoint", str(checkpoint / "model"), f"the model's config.json; {reason}") from error
    for key, wanted, value in _differences(_plain(saved), _plain(config)):
        raise ConfigError(f"model ({key})", value, f"{wanted!r}, with which {checkpoint} was trained")


def _plain(config: FlamingoConfig) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return content


def _differences(saved: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted((saved.keys() | found.keys()) - FREE):
        wanted, value = saved.get(key), found.get(key)
        if isinstance(wanted, Mapping) and isinstance(value, Mapping):
            yield from ((f"{key}.{name}", *values) for name, *values in _differences(wanted, value))
        elif wanted != value:
            yield key, wanted, value
