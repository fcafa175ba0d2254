"""A task of one's own without a line of code: ``queries.jsonl``, ``support.jsonl`` and ``task.json``.

A line of ``queries.jsonl`` or ``support.jsonl``::

    {"id": "17", "image": "a/17.png", "question": "What is it?", "answer": "a dax", "examples": ["3", "8"]}

``images`` or ``video`` in the place of ``image``, ``answers`` in that of ``answer``; paths begin at the folder.
``options`` are the answers that this sample may have; ``media_key`` (or ``media_keys``) names the picture itself, where
two files show the same one. ``examples`` are keys of ``support.jsonl``: the task itself chooses what this query sees.

``task.json`` may hold ``answering`` (``open_ended``, ``close_ended``), ``instruction`` with ``{question}``, ``options``
of all samples, ``scores`` and ``max_new_tokens``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...config import ConfigError
from ..task import Answering, Sample, Task
from .folder import KEY, find, read_json, read_jsonl

QUESTION = "Question: {question} Answer:"
OUTPUT = "Output:"
LINE_FIELDS = frozenset(
    (
        "id",
        "image",
        "images",
        "video",
        "question",
        "answer",
        "answers",
        "options",
        "examples",
        "media_key",
        "media_keys",
    )
)
TASK_FIELDS = frozenset(("answering", "instruction", "options", "scores", "max_new_tokens"))


def load(root: Path) -> Task:
    """The task of a folder.

    Raises:
        ConfigError: ``queries.jsonl`` is missing, or something in the files is not as above.
    """
    queries, episodes = _read(root, find(root, "queries.jsonl"))
    support_file = root / "support.jsonl"
    support, _ = _read(root, support_file) if support_file.exists() else ([], {})
    _check_examples(root, episodes, support)
    settings = _settings(root / "task.json")
    options = settings.pop("options", ())
    closed = bool(options) or any(sample.options for sample in queries)
    asked = any(sample.question for sample in queries)
    answering = Answering(settings.pop("answering", "close_ended" if closed else "open_ended"))
    written = "exact_match" if asked else "cider"
    score = "accuracy" if answering is Answering.close_ended else written
    defaults = {"instruction": QUESTION if asked else OUTPUT, "scores": (score,)}
    return Task("jsonl", answering, support, queries, options=options, episodes=episodes, **{**defaults, **settings})


def _read(root: Path, path: Path) -> tuple[list[Sample], dict[str, tuple[str, ...]]]:
    """Samples, and the keys of their examples."""
    samples, episodes = [], {}
    for number, line in read_jsonl(path):
        entry = _Line(root, f"{path}:{number}", line)
        samples.append(entry.sample())
        if examples := entry.texts("examples"):
            episodes[samples[-1].key] = examples
    return samples, episodes


class _Line:
    """One line's fields."""

    def __init__(self, root: Path, place: str, content: dict[str, Any]) -> None:
        self.root, self.place, self.content = root, place, content
        if unknown := sorted(content.keys() - LINE_FIELDS):
            raise ConfigError(KEY, place, f"fields {', '.join(sorted(LINE_FIELDS))}; it has {', '.join(unknown)}")

    def sample(self) -> Sample:
        key = self.content.get("id")
        if not isinstance(key, str | int) or isinstance(key, bool) or key == "":
            raise ConfigError(KEY, self.place, f"an id, a text or a whole number; it is {key!r}")
        media = self.texts("image", "images", "video")
        return Sample(
            key=str(key),
            media=tuple(self.root / path for path in media),
            question=" ".join(self.texts("question")),
            answers=self.texts("answer", "answers"),
            options=self.texts("options"),
            media_keys=self.texts("media_key", "media_keys"),
        )

    def texts(self, *names: str) -> tuple[str, ...]:
        """A text or a list of them, under one of several names; none where the field is not there."""
        given = [name for name in names if self.content.get(name) is not None]
        if len(given) > 1:
            raise ConfigError(KEY, self.place, f"one of {', '.join(names)}; it has {' and '.join(given)}")
        return _texts(self.content[given[0]], self.place, given[0]) if given else ()


def _texts(value: Any, place: str, name: str) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if any(isinstance(one, bool) or not isinstance(one, str | int) for one in values):
        raise ConfigError(KEY, place, f"a text or a list of texts as {name}; it is {value!r}")
    return tuple(str(one) for one in values)


def _settings(path: Path) -> dict[str, Any]:
    """What ``task.json`` says, as :class:`Task` wants it."""
    settings = read_json(path, dict, f"an object of {', '.join(sorted(TASK_FIELDS))}") if path.exists() else {}
    if unknown := sorted(settings.keys() - TASK_FIELDS):
        raise ConfigError(KEY, str(path), f"fields {', '.join(sorted(TASK_FIELDS))}; it has {', '.join(unknown)}")
    for name in ("options", "scores"):
        if name in settings:
            settings[name] = _texts(settings[name], str(path), name)
    if settings.get("answering", "open_ended") not in tuple(Answering):
        raise ConfigError(KEY, str(path), f"answering {' or '.join(Answering)}; it is {settings['answering']!r}")
    if not isinstance(settings.get("instruction", ""), str):
        raise ConfigError(KEY, str(path), f"a text as instruction; it is {settings['instruction']!r}")
    most = settings.get("max_new_tokens", 1)
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise ConfigError(KEY, str(path), f"1 or more as max_new_tokens; it is {most!r}")
    return settings


def _check_examples(root: Path, episodes: Mapping[str, tuple[str, ...]], support: list[Sample]) -> None:
    known = {sample.key for sample in support}
    for query, examples in episodes.items():
        if unknown := [example for example in examples if example not in known]:
            where = f"{root / 'queries.jsonl'}: examples of {query!r}"
            raise ConfigError(KEY, where, f"keys of {root / 'support.jsonl'}; {unknown[0]!r} is none")
