import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flamingo_ds.config import ConfigError


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    """A file of the task's folder: JSON, JSON lines (a list, for .jsonl), or bytes and text as they are.

    A picture of which nothing else is said holds its name.
    """

    def call(name: str, content: Any = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = name.encode() if content is None else content
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(line) + "\n" for line in content))
        else:
            path.write_text(json.dumps(content))
        return path

    return call


@pytest.fixture
def error_of() -> Callable[..., str]:
    """The text of the ConfigError that a call raises; every one of them is a single line."""

    def call(function: Callable[..., object], *arguments: Any, **named: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            function(*arguments, **named)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return call
