"""Reading JSON that may be damaged."""

import json
from pathlib import Path
from typing import Any

from ..config import ConfigError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint.

    Raises:
        ConfigError: the file is not there, or is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError("checkpoint", str(path), f"valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError("checkpoint", str(path), f"a JSON object; it is a {type(content).__name__}")
    return content
