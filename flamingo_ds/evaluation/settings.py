"""What is evaluated, and how: the command line's options, checked."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch

from ..config import ConfigError
from ..parallel import Launch
from ..parallel.launch import device_index
from .choosing import Selection

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Settings:
    """Everything but the tasks.

    Attributes:
        model: as on the command line.
        shots: numbers of examples.
        seeds: of the choice of examples.
        selection: at random or the most similar ones.
        ensemble: orders of the examples.
        balanced: of :func:`~flamingo_ds.evaluation.choosing.choose`.
        limit: most queries a task; None: all.
        batch_size: prompts that are answered together.
        dtype: of the weights; None: their own.
        device: where to compute.
        report: the JSON file; the journal lies beside it.
        features: folder of the picture features, for RICES.
        show: so many prompts of each cell are printed.
    """

    model: str
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    selection: Selection
    ensemble: int
    balanced: bool | None
    limit: int | None
    batch_size: int
    dtype: torch.dtype | None
    device: torch.device
    report: Path
    features: Path
    show: int = 0


def read_settings(options: argparse.Namespace, launch: Launch) -> Settings:
    """Of the command line.

    Raises:
        ConfigError: the option, its value and what was expected.
    """
    for name, least in (("ensemble", 1), ("batch_size", 1), ("show", 0), ("limit", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise ConfigError(f"--{name.replace('_', '-')}", value, f"{least} or more")
    return Settings(
        model=options.model,
        shots=_numbers("--shots", options.shots),
        seeds=_numbers("--seeds", options.seeds),
        selection=Selection(options.select),
        ensemble=options.ensemble,
        balanced=options.balanced,
        limit=options.limit,
        batch_size=options.batch_size,
        dtype=DTYPES[options.dtype] if options.dtype else None,
        device=_device(options.device, launch),
        report=options.json,
        features=options.features or options.json.parent / "features",
        show=options.show,
    )


def _numbers(key: str, text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(key, text, "numbers with commas between them, such as 0,4,32") from error
    if min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ConfigError(key, text, "different numbers, 0 or more")
    return numbers


def _device(name: str | None, launch: Launch) -> torch.device:
    """This rank's own GPU where there is one and nothing else was asked for."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError("--device", name, f"a device of this machine: {reason}") from error
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", device_index(launch.local_rank, torch.cuda.device_count()))
    return device
