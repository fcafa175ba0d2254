"""The states of a process's random generators, in and out."""

import random
from typing import Any

import numpy
import torch


def take_random_states() -> dict[str, Any]:
    """All generators' states, of types that ``torch.load(weights_only=True)`` reads."""
    kind, keys, position, has_gauss, cached = numpy.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "python": random.getstate(),
        "numpy": (kind, numpy.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)),
    }


def set_random_states(states: dict[str, Any]) -> None:
    """The inverse of :func:`take_random_states`."""
    torch.set_rng_state(states["torch"])
    if states["device"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["device"])
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = states["numpy"]
    numpy.random.set_state((kind, numpy.array(keys, dtype=numpy.uint32), position, has_gauss, cached))
