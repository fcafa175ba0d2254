"""A process's random generators: how they start, and their states in and out."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import torch


def seed_for(seed: int, what: str) -> int:
    """A seed of its own for each thing that is drawn: of a run's seed and a name, 0 to 2^56 - 1."""
    return int.from_bytes(hashlib.sha256(f"{seed} {what}".encode()).digest()[:7], "big")


def start_random_states(seed: int, rank: int) -> None:
    """Seed all generators, another way on every rank: what dropout drops is not the same in all replicas."""
    own = seed_for(seed, f"rank {rank}")
    torch.manual_seed(own)
    random.seed(own)
    numpy.random.seed(own % 2**32)


@contextmanager
def drawing_on_cpu(seed: int) -> Iterator[None]:
    """While this is open torch draws from this seed on the CPU; outside, no generator notices.

    Not ``torch.manual_seed``, which would seed the devices as well and leave them so.
    """
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


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
