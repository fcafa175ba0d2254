"""The last part of a save, on rank 0: what is the same on all ranks, the index, and all the renaming."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import torch
from safetensors.torch import save_file

from ..config import RunConfig
from ..model import FlamingoConfig, FlamingoProcessor
from .files import PARTIAL_SUFFIX, beside, finish_file, point_to, put_in_place, write_json
from .markers import FOLDER, wait_for_markers
from .names import ABOUT, LATEST
from .snapshot import write_indices


@dataclass(frozen=True)
class SaveInput:
    """Everything a checkpoint holds that is the same on all ranks.

    Attributes:
        step: optimizer steps done.
        recipe: resolved.
        model_config, processor: of the model.
        base: fingerprint of the frozen weights, as JSON.
        layout: name of the layout, for people.
    """

    step: int
    recipe: RunConfig
    model_config: FlamingoConfig
    processor: FlamingoProcessor
    base: Mapping[str, Any]
    layout: str


@dataclass(frozen=True)
class CommonFiles:
    """What rank 0 writes for all, ready: nothing in it changes any more.

    Attributes:
        files: content by path inside the checkpoint.
        reference: a batch's tensors and the engine's logits.
        about: of ``checkpoint.json``.
    """

    files: Mapping[str, bytes]
    reference: Mapping[str, torch.Tensor]
    about: Mapping[str, Any]


def model_files(content: SaveInput) -> dict[str, bytes]:
    """``model/``, as the classes' own code writes it, by path inside the checkpoint."""
    with TemporaryDirectory() as folder:
        content.model_config.save_pretrained(folder)
        content.processor.save_pretrained(folder)
        paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {f"model/{path.relative_to(folder)}": path.read_bytes() for path in paths}


def publish(target: Path, common: CommonFiles, shards: int, give_up: Event, mode: int) -> None:
    """Make the partial folder whole and ``target``, and move ``latest`` to it, when every rank has written its part.

    Args:
        target: the checkpoint.
        common: what is the same on all ranks.
        shards: number of ranks that have tensors.
        give_up: set when nobody is to wait for the others any longer.
        mode: of the files.

    Raises:
        CheckpointError: another rank failed or did not come.
    """
    partial = beside(target, PARTIAL_SUFFIX)
    paths = []
    for name, text in common.files.items():
        paths.append(partial / name)
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        paths[-1].write_bytes(text)
    paths.append(partial / "reference.safetensors")
    save_file(dict(common.reference), paths[-1])
    shares = wait_for_markers(partial, common.about["ranks"], give_up)
    paths += write_indices(partial, shares, shards)
    paths.append(partial / ABOUT)
    write_json(paths[-1], common.about)
    for path in paths:
        finish_file(path, mode)
    shutil.rmtree(partial / FOLDER)
    put_in_place(partial, target)
    point_to(target.with_name(LATEST), target.name)
