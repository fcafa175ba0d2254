"""One rank's part of a checkpoint: taken into memory while training stands still, written while it goes on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..parallel import TrainEngine
from .files import finish_file, write_json
from .names import STATE_KINDS, STEP, data_name, random_name, shard_name
from .random_states import take_random_states


@dataclass(frozen=True)
class Snapshot:
    """What this rank writes. It shares no memory with what trains.

    Attributes:
        tensors: kind -> canonical name -> whole fp32 tensor on the CPU; the same names in every kind.
        random_states: of this process.
        data: its position as JSON text; None: it writes none.
    """

    tensors: dict[str, dict[str, torch.Tensor]]
    random_states: dict[str, Any]
    data: str | None

    @property
    def names(self) -> list[str]:
        """Of the tensors, none on a rank whose turn never came."""
        return list(self.tensors[STATE_KINDS[0]])


@dataclass(frozen=True)
class Share:
    """A rank's place in a save.

    Attributes:
        step: of the checkpoint; it stands in every tensor file, so that a file of another one is known.
        rank: over all.
        data_rank: whose data position this rank writes; None: nobody's.
        shard, shards: number of its tensor files among all; only of ranks that have tensors.
        mode: of its files.
    """

    step: int
    rank: int
    data_rank: int | None
    shard: int
    shards: int
    mode: int


def take_snapshot(engine: TrainEngine, data_state: Mapping[str, Any] | None) -> Snapshot:
    """Copy this rank's part. Collective.

    All ranks that yield the same parameters see the same order and sizes, so each can tell without asking whose turn it
    is: the one's that has the fewest bytes so far. No rank holds more than its part and the parameter under way.
    """
    index, count = engine.share()
    loads = [0] * count
    tensors: dict[str, dict[str, torch.Tensor]] = {kind: {} for kind in STATE_KINDS}
    for name, parts in engine.full_state():
        turn = loads.index(min(loads))
        loads[turn] += sum(parts[kind].nbytes for kind in STATE_KINDS)
        if turn == index:
            for kind in STATE_KINDS:
                # A copy even on the CPU, where a plain optimizer's tensors are the ones that the next step changes.
                tensors[kind][name] = parts[kind].clone(memory_format=torch.contiguous_format)
    data = None if data_state is None else json.dumps(data_state, indent=2) + "\n"
    return Snapshot(tensors, take_random_states(), data)


def write_snapshot(folder: Path, snapshot: Snapshot, share: Share) -> dict[str, Any]:
    """Write and flush this rank's files; each kind's memory is given back when it is written.

    Returns:
        What the index needs: ``names``, ``total_size`` of a kind in bytes, and the number ``shard``.
    """
    names = snapshot.names
    size = sum(tensor.nbytes for tensor in snapshot.tensors[STATE_KINDS[0]].values())
    (folder / "ranks").mkdir(parents=True, exist_ok=True)
    random_states = folder / random_name(share.rank)
    torch.save(snapshot.random_states, random_states)
    written = [random_states]
    if snapshot.data is not None and share.data_rank is not None:
        data = folder / data_name(share.data_rank)
        data.parent.mkdir(exist_ok=True)
        data.write_text(snapshot.data, encoding="utf-8")
        written.append(data)
    for kind in STATE_KINDS if names else ():
        path = folder / shard_name(kind, share.shard, share.shards)
        save_file(snapshot.tensors.pop(kind), path, {"format": "pt", STEP: str(share.step)})
        written.append(path)
    for path in written:
        finish_file(path, share.mode)
    return {"names": names, "total_size": size, "shard": share.shard}


def write_indices(folder: Path, shares: list[dict[str, Any]], shards: int) -> list[Path]:
    """Write each kind's index from what every rank's :func:`write_snapshot` returned."""
    written = []
    for kind in STATE_KINDS:
        weight_map = {name: shard_name(kind, share["shard"], shards) for share in shares for name in share["names"]}
        path = folder / f"{kind}.safetensors.index.json"
        metadata = {"total_size": sum(share["total_size"] for share in shares)}
        write_json(path, {"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))})
        written.append(path)
    return written
