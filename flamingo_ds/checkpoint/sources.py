"""What reading any pretrained source has in common: every failure is one line about the key that named it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors import SafetensorError

from ..config import ConfigError

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
# Have ``from_pretrained`` say what did not fit, which it otherwise passes over with a warning or a long traceback.
COMPLAIN: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}

# What the libraries raise on a damaged folder. A pickle that is more than tensors is refused unread; a truncated one is
# a RuntimeError of torch's, a made-up dtype in a config.json an AttributeError.
LOADING_ERRORS = (OSError, ValueError, KeyError, SafetensorError, UnpicklingError, RuntimeError, AttributeError)


def require_whole(found: dict[str, Any]) -> None:
    """Refuse a source that lacks weights: transformers would draw them at random, and frozen they would stay so."""
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{len(missing)} weights are not there, such as {missing[0]}")
    if mismatched := sorted(found["mismatched_keys"]):
        name, given, wanted = mismatched[0]
        raise ValueError(f"{name} is {tuple(given)}, not {tuple(wanted)} as its configuration says")


@contextmanager
def source_errors(key: str, source: str, expected: str) -> Iterator[None]:
    """A library's failure to load something as one line about the key that named it."""
    if not Path(source).is_dir() and not HUB_NAME.fullmatch(source):
        raise ConfigError(key, source, f"{expected}: a folder, which is not there, or a hub name (ORG/NAME)")
    try:
        yield
    except LOADING_ERRORS as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(error, KeyError):
            reason = f"there is no {reason}"
        if isinstance(error, UnpicklingError):  # torch's text invites to run what it refused
            reason = "a pickle that is damaged or holds more than tensors, which is not read"
        raise ConfigError(key, source, f"{expected}; {reason}") from error
