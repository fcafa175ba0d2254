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


def read_text(path: Path) -> str:
    """The content of a text file.

    Raises:
        ConfigError: it cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError(KEY, str(path), f"a text in UTF-8: {error}") from error


def read_json(path: Path, kind: type, what: str) -> Any:
    """The content of a JSON file.

    Args:
        path: of the file.
        kind: ``dict`` or ``list``.
        what: it should be, for the error.

    Raises:
        ConfigError: no JSON, or something else.
    """
    content = _parsed(read_text(path), str(path), f"{what}, in JSON")
    if not isinstance(content, kind):
        raise ConfigError(KEY, str(path), f"{what}; its top is a {type(content).__name__}")
    return content


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects with their line numbers from 1; empty lines are passed over.

    Raises:
        ConfigError: a line that is no JSON object.
    """
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        content = _parsed(line, f"{path}:{number}", "a JSON object")
        if not isinstance(content, dict):
            raise ConfigError(KEY, f"{path}:{number}", f"a JSON object; it is a {type(content).__name__}")
        yield number, content


def _parsed(text: str, place: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(KEY, place, f"{what}: {error}") from error


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


def listed(entry: Any, name: str, path: Path) -> list[Any]:
    """A field that is a list; an empty one where it is not there, as in splits without answers.

    Raises:
        ConfigError: it is something else.
    """
    return [] if isinstance(entry, dict) and entry.get(name) is None else field(entry, name, path, list)


def most_common_first(answers: Sequence[str]) -> tuple[str, ...]:
    """All answers, each as often as it was given; the one given most often comes first, of equals the first given."""
    counts = Counter(answers)
    return tuple(sorted(answers, key=lambda answer: -counts[answer]))
