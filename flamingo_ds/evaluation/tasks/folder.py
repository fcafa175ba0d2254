"""Reading a task's folder: every way in which it can be another one than expected ends in one clear line."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...config import ConfigError

KEY = "--task"


def find(root: Path, *candidates: str) -> Path:
    """The first of several places of a file or folder, relative to the task's folder.

    Raises:
        ConfigError: none is there.
    """
    for candidate in candidates:
        if (root / candidate).exists():
            return root / candidate
    where = "the file" if Path(candidates[0]).suffix else "the folder"
    raise ConfigError(KEY, str(root), f"{where} {' or '.join(candidates)} in it")


def read_json(path: Path, kind: type, what: str) -> Any:
    """The content of a JSON file.

    Args:
        path: of the file.
        kind: ``dict`` or ``list``.
        what: layout it should have, for the error.

    Raises:
        ConfigError: no JSON, or something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(KEY, str(path), f"JSON ({what}): {error}") from error
    if not isinstance(content, kind):
        raise ConfigError(KEY, str(path), f"{what}; its top is a {type(content).__name__}")
    return content


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects with their line numbers from 1; empty lines are passed over.

    Raises:
        ConfigError: a line that is no JSON object.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise ConfigError(KEY, str(path), f"UTF-8 text: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(KEY, f"{path}:{number}", f"a JSON object: {error}") from error
        if not isinstance(content, dict):
            raise ConfigError(KEY, f"{path}:{number}", f"a JSON object; it is a {type(content).__name__}")
        yield number, content


def field(entry: Any, name: str, path: Path, kind: type | tuple[type, ...] = str) -> Any:
    """A field of an entry of a file.

    Raises:
        ConfigError: it is not there, or of another kind.
    """
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        names = " or ".join(one.__name__ for one in kinds)
        raise ConfigError(KEY, str(path), f"entries with {name!r} ({names}); one has {value!r}"[:300])
    return value


def most_common_first(answers: Sequence[str]) -> tuple[str, ...]:
    """All answers, each as often as it was given; the one given most often comes first, of equals the first given."""
    counts = Counter(answers)
    return tuple(sorted(answers, key=lambda answer: -counts[answer]))
