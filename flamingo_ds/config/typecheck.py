"""Hold the keys and values of a recipe against the schema's types, and say what was expected in a user's words."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from enum import EnumType
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import MISSING, BooleanNode, EnumNode, FloatNode, IntegerNode, StringNode
from omegaconf.errors import ValidationError

from ..errors import ConfigError
from .schema import RunConfig

# OmegaConf's own conversions decide what fits (a text "3" is an integer); only the words are ours.
SCALARS: dict[type, tuple[Any, str]] = {
    bool: (BooleanNode, "true or false"),
    int: (IntegerNode, "an integer"),
    float: (FloatNode, "a number"),
    str: (StringNode, "a text"),
}


COMMAND_LINE = "command line"


def check_types(content: Any, origin: str, hint: Any = RunConfig, key: str = "") -> None:
    """Compare plain, unresolved content with the schema, in the order in which it is written.

    Args:
        content: of a YAML file or of an override, as plain Python objects.
        origin: where it comes from, for messages.
        hint: the type that is wanted.
        key: dotted name of ``content``, empty for a whole recipe.

    Raises:
        ConfigError: the first unknown key or value of a wrong type.
    """
    if hint is Any:
        return  # another library's settings
    if isinstance(content, str) and (content == MISSING or "${" in content):
        return  # checked when it is filled in
    if type(None) in get_args(hint):
        if content is None:
            return
        hint = next(option for option in get_args(hint) if option is not type(None))
    if is_dataclass(hint):
        _check_dataclass(content, origin, hint, key)
    elif get_origin(hint) is dict:
        _check_names(content, origin, get_args(hint)[1], key)
    elif get_origin(hint) in (list, tuple):
        _check_list(content, origin, hint, key)
    elif isinstance(hint, EnumType):
        enum: Any = hint
        names = list(hint.__members__)
        _require(_fits(lambda: EnumNode(enum, content)), key, content, f"one of: {', '.join(names)}", origin)
    else:
        node, words = SCALARS[hint]
        _require(_fits(lambda: node(content, is_optional=False)), key, content, words, origin)


def _check_dataclass(content: Any, origin: str, hint: Any, key: str) -> None:
    hints = get_type_hints(hint)
    _require(isinstance(content, Mapping), key, content, f"a mapping with the keys {', '.join(hints)}", origin)
    for name, value in content.items():
        full_key = f"{key}.{name}" if key else str(name)
        if name not in hints:
            raise ConfigError(full_key, value, f"a known key ({origin}); {_suggestion(key, str(name), list(hints))}")
        check_types(value, origin, hints[name], full_key)


def _check_names(content: Any, origin: str, hint: Any, key: str) -> None:
    _require(isinstance(content, Mapping), key, content, "a mapping of names", origin)
    for name, value in content.items():
        _require(isinstance(name, str), key, name, "names that are texts", origin)
        if value is not None or origin != COMMAND_LINE:  # there null takes it out
            check_types(value, origin, hint, f"{key}.{name}")


def _check_list(content: Any, origin: str, hint: Any, key: str) -> None:
    options = get_args(hint)
    if get_origin(hint) is list:
        _require(isinstance(content, list), key, content, "a list", origin)
        options *= len(content)
    else:
        fits = isinstance(content, list) and len(content) == len(options)
        _require(fits, key, content, f"a list of {len(options)} values", origin)
    for index, (value, option) in enumerate(zip(content, options, strict=True)):
        check_types(value, origin, option, f"{key}[{index}]")


def _require(fits: bool, key: str, value: Any, expected: str, origin: str) -> None:
    if not fits:
        raise ConfigError(key or "recipe", value, f"{expected} ({origin})")


def _fits(convert: Any) -> bool:
    try:
        convert()
    except ValidationError:
        return False
    return True


def _suggestion(parent: str, name: str, siblings: list[str]) -> str:
    """A similar name in the same place, or the same name in another place, or all names of this place."""
    prefix = f"{parent}." if parent else ""
    if close := difflib.get_close_matches(name, siblings, n=1):
        return f"did you mean {prefix}{close[0]}?"
    elsewhere = [known for known in _known_keys(RunConfig) if known.endswith(f".{name}")]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere)}?"
    return f"{parent or 'a recipe'} has: {', '.join(siblings)}"


def _known_keys(hint: Any, prefix: str = "") -> Iterator[str]:
    for name, inner in get_type_hints(hint).items():
        yield f"{prefix}{name}"
        if is_dataclass(inner):
            yield from _known_keys(inner, f"{prefix}{name}.")
        elif get_origin(inner) is dict:
            yield from _known_keys(get_args(inner)[1], f"{prefix}{name}.NAME.")
