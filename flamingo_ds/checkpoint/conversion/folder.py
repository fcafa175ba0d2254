"""A model folder that is written shard by shard, can be killed at any time, and goes on where it stopped.

Everything is made in ``OUT.partial``; what is finished there is known by its record. The rename to ``OUT`` is the last
thing that happens, so whatever bears that name is whole.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ...config import ConfigError
from ..files import OLD_SUFFIX, PARTIAL_SUFFIX, beside, discard, finish_file, put_in_place, readable_mode, write_json
from ..names import INDEX, MANIFEST, WEIGHTS
from ..stored_tensor import StoredTensor
from .outputs import Output
from .shards import file_bytes, write_shard

PLAN = "plan.json"


@dataclass(frozen=True)
class ShardPlan:
    """File name -> the tensors in it."""

    files: dict[str, list[Output]]

    @classmethod
    def of(cls, outputs: Sequence[Output], max_shard_size: str) -> "ShardPlan":
        """Cut as Hugging Face cuts, so that file names are the usual ones."""
        by_name = {output.name: output for output in outputs}
        shapes = {name: torch.empty(one.shape, dtype=one.dtype, device="meta") for name, one in by_name.items()}
        pattern = WEIGHTS.replace(".safetensors", "{suffix}.safetensors")
        split = split_torch_state_dict_into_shards(shapes, filename_pattern=pattern, max_shard_size=max_shard_size)
        return cls({file: [by_name[name] for name in names] for file, names in split.filename_to_tensors.items()})

    @property
    def outputs(self) -> list[Output]:
        """All tensors."""
        return [output for outputs in self.files.values() for output in outputs]

    @property
    def nbytes(self) -> int:
        """Of all tensors."""
        return sum(output.nbytes for output in self.outputs)


def write_folder(
    out: Path, plan: ShardPlan, identity: dict[str, Any], write_rest: Callable[[Path], None], about: dict[str, Any]
) -> dict[str, str]:
    """Write a model folder.

    Args:
        out: complete at the end or untouched; what is there is replaced.
        plan: its weights.
        identity: of sources and options: a conversion that was killed goes on only if nothing differs.
        write_rest: everything but weights, into the folder under way.
        about: for the manifest.

    Returns:
        sha256 of each tensor.
    """
    partial = beside(out, PARTIAL_SUFFIX)
    _take_up(partial, identity, plan)
    digests: dict[str, str] = {}
    with _progress(out.name, plan.nbytes) as advance:
        for file, outputs in plan.files.items():
            record = partial / f"{file}.json"
            if record.is_file() and (partial / file).is_file():
                done = json.loads(record.read_text(encoding="utf-8"))
                advance(sum(output.nbytes for output in outputs))
            else:
                done = write_shard(partial / file, outputs, advance)
                write_json(record, done)
            digests |= done
    write_rest(partial)
    for file in plan.files:
        (partial / f"{file}.json").unlink()
    (partial / PLAN).unlink()
    write_json(partial / MANIFEST, {**about, "tensors": _manifest(plan, digests)})
    if list(plan.files) != [WEIGHTS]:
        weight_map = {output.name: file for file, outputs in plan.files.items() for output in outputs}
        write_json(partial / INDEX, {"metadata": {"total_size": plan.nbytes}, "weight_map": weight_map})
    mode = readable_mode()
    for path in partial.rglob("*"):
        if path.is_file():
            finish_file(path, mode)
    put_in_place(partial, out)
    discard(beside(out, OLD_SUFFIX))
    return digests


def write_manifest(folder: Path, tensors: Mapping[str, torch.Tensor], about: dict[str, Any]) -> None:
    """The manifest of tensors that were written in another way.

    Args:
        folder: theirs.
        tensors: by name.
        about: them all.
    """
    write_json(folder / MANIFEST, {**about, "tensors": {name: describe(tensor) for name, tensor in tensors.items()}})


def describe(tensor: torch.Tensor) -> dict[str, Any]:
    """A tensor's line in a manifest: sha256 of its bytes, dtype, shape."""
    digest = hashlib.sha256()
    for chunk in StoredTensor.plain(tensor).chunks():
        digest.update(chunk)
    return _line(digest.hexdigest(), tensor.dtype, tensor.shape)


def require_free(out: Path, is_ours: Callable[[Path], bool]) -> None:
    """Refuse to replace what is no earlier result.

    Raises:
        ConfigError: there is something else at the place.
    """
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]) and not is_ours(out):
        raise ConfigError("OUT", str(out), "a new folder, or an earlier result to replace")
    if not out.parent.exists():
        out.parent.mkdir(parents=True)


@contextmanager
def _progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar of bytes, rate and time left, where there is a terminal."""
    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total)
        yield lambda count: bar.update(task, advance=count)


def _take_up(partial: Path, identity: dict[str, Any], plan: ShardPlan) -> None:
    """Leave what an identical conversion has finished; else begin anew."""
    sizes = {file: file_bytes(outputs) for file, outputs in plan.files.items()}
    text = json.dumps({**identity, "sizes": sizes}, sort_keys=True)
    stamp = {"sha256": hashlib.sha256(text.encode()).hexdigest()}
    known = partial / PLAN
    if known.is_file() and json.loads(known.read_text(encoding="utf-8")) == stamp:
        for file, size in sizes.items():
            if (partial / file).is_file() and (partial / file).stat().st_size != size:
                (partial / file).unlink()
        return
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_json(known, stamp)


def _manifest(plan: ShardPlan, digests: dict[str, str]) -> dict[str, Any]:
    return {output.name: _line(digests[output.name], output.dtype, output.shape) for output in plan.outputs}


def _line(digest: str, dtype: torch.dtype, shape: Sequence[int]) -> dict[str, Any]:
    return {"sha256": digest, "dtype": str(dtype).removeprefix("torch."), "shape": list(shape)}
