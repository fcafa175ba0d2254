"""Two ranks write one checkpoint."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from flamingo_ds.checkpoint import saver as saver_module
from flamingo_ds.checkpoint.markers import CheckpointError
from flamingo_ds.checkpoint.retention import Retention
from flamingo_ds.checkpoint.saver import CheckpointSaver
from flamingo_ds.checkpoint.store import Checkpoint, find_checkpoint

from ..saving import StateEngine, begin, content, flat_state, save, value_of
from . import tiny_run
from .conftest import Pools
from .tiny_run import Layout

KINDS = ("weight", "exp_avg", "exp_avg_sq")


def train_and_save(folder: Path, layout: Layout) -> tuple[dict[str, Any], dict[str, Any]]:
    """Save in the background while a step is trained; the state before that step and after."""
    engine = tiny_run.build(layout)
    tiny_run.train_steps(engine, layout, range(2))
    before = {name: {kind: tensor.clone() for kind, tensor in parts.items()} for name, parts in engine.full_state()}
    saver = CheckpointSaver(folder, Retention(), True, dist.get_rank())
    write = saver_module.write_snapshot
    trained = saver_module.threading.Event()

    def late(*arguments: Any) -> Any:
        assert trained.wait(60)
        return write(*arguments)

    saver_module.write_snapshot = late
    try:
        saver.save(content(2), engine, {"logits": torch.zeros(1)}, {"rank": dist.get_rank()})
        after = tiny_run.train_steps(engine, layout, range(2, 4)).state
        trained.set()
        saver.finish()
    finally:
        saver_module.write_snapshot = write
    return before, after


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_ranks_share_the_tensors_and_the_writing(pools: Pools, tmp_path: Path, stage: int) -> None:
    before, after = pools.run(2, train_and_save, tmp_path, Layout(zero=stage))[0]
    checkpoint = Checkpoint(tmp_path / "latest")
    assert (checkpoint.ranks, checkpoint.data_ranks) == (2, 2)
    state = checkpoint.state()
    assert state.keys() == before.keys()
    for name, parts in before.items():
        for kind in KINDS:
            assert torch.equal(state[name][kind], parts[kind]), f"{name} {kind}"
    # Else the moment that the snapshot is of would not show.
    assert any(not torch.equal(parts["weight"], after[name]["weight"]) for name, parts in before.items())
    largest = max(parts["weight"].nbytes for parts in before.values())
    for kind in KINDS:
        index = json.loads((checkpoint.path / f"{kind}.safetensors.index.json").read_text())
        loads = [0, 0]
        for name, file in index["weight_map"].items():
            assert file in (f"{kind}-00000-of-00002.safetensors", f"{kind}-00001-of-00002.safetensors")
            loads[int(file[len(kind) + 1 :][:5])] += before[name][kind].nbytes
        assert index["metadata"]["total_size"] == sum(loads)
        assert max(loads) - min(loads) <= largest
    assert checkpoint.data_states() == [{"rank": 0}, {"rank": 1}]
    assert sorted(os.listdir(checkpoint.path / "ranks")) == ["0000.pt", "0001.pt"]


def save_two_stages(folder: Path) -> None:
    """As a pipeline does: each rank has names of its own, and only the first reads data."""
    rank = dist.get_rank()
    state = flat_state(float(rank), ("a", "b") if rank == 0 else ("c",))
    saver = CheckpointSaver(folder, Retention(), True, 0 if rank == 0 else None)
    saver.save(
        content(1), StateEngine(state, (0, 1)), {"logits": torch.zeros(1)}, {"first": True} if not rank else None
    )
    saver.finish()


def test_stages_of_a_pipeline_save_their_own_names(pools: Pools, tmp_path: Path) -> None:
    pools.run(2, save_two_stages, tmp_path)
    checkpoint = Checkpoint(tmp_path / "latest")
    assert {name: parts["weight"].unique().tolist() for name, parts in checkpoint.state().items()} == {
        "a": [0.0],
        "b": [0.0],
        "c": [1.0],
    }
    assert (checkpoint.ranks, checkpoint.data_ranks) == (2, 1)
    assert os.listdir(checkpoint.path / "data") == ["0000.json"]


def save_one_tensor(folder: Path) -> None:
    saver = CheckpointSaver(folder, Retention(), True, dist.get_rank())
    saver.save(content(1), StateEngine(flat_state(1.0, ("only",))), {"logits": torch.zeros(1)}, {})
    saver.finish()


def test_a_rank_without_tensors_writes_no_file(pools: Pools, tmp_path: Path) -> None:
    pools.run(2, save_one_tensor, tmp_path)
    checkpoint = Checkpoint(tmp_path / "latest")
    assert checkpoint.weights()["only"].tolist() == [[1.0, 1.0]]
    assert sorted(path.name for path in checkpoint.path.glob("*-of-*")) == [
        f"{kind}-00000-of-00001.safetensors" for kind in sorted(KINDS)
    ]


def fail_on_one_rank(folder: Path, failing: int) -> list[str]:
    """What each of the next calls says; the third save is a good one."""
    saver = CheckpointSaver(folder, Retention(keep_last=1), True, dist.get_rank())
    begin(saver, 1, 1.0)
    saver.finish()
    write, said = saver_module.write_snapshot, []

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    if dist.get_rank() == failing:
        saver_module.write_snapshot = full
    try:
        begin(saver, 2, 2.0)
        saver.finish()
    except CheckpointError as error:
        said.append(str(error))
    finally:
        saver_module.write_snapshot = write
    chosen = find_checkpoint(folder, "")
    assert chosen is not None
    said.append(chosen.path.name)
    dist.barrier()
    begin(saver, 3, 3.0)
    saver.finish()
    return said


@pytest.mark.parametrize("failing", [0, 1])
def test_one_rank_s_error_is_every_rank_s_and_leaves_no_checkpoint(pools: Pools, tmp_path: Path, failing: int) -> None:
    began = time.monotonic()
    for said, chosen in pools.run(2, fail_on_one_rank, tmp_path, failing):
        assert f"rank {failing}: OSError: [Errno 28] No space left on device" in said
        assert chosen == "step-00000001"
    assert time.monotonic() - began < 60  # nobody waits for one who will not come
    assert sorted(os.listdir(tmp_path)) == ["latest", "step-00000003"]
    assert value_of(tmp_path / "latest") == 3.0


def die_on_one_rank(folder: Path) -> None:
    save(folder, 1, 1.0)
    saver = CheckpointSaver(folder, Retention(keep_last=1), True, dist.get_rank())
    saver_module.GRACE_SECONDS = 0.5
    if dist.get_rank() == 1:
        saver_module.leave_marker = lambda *_: os._exit(9)  # its files are written, its word is missing
    begin(saver, 2, 2.0)
    if dist.get_rank() == 1:
        time.sleep(30)
    saver.abandon()
    raise RuntimeError("rank 0 has given up")


def test_a_rank_that_is_killed_leaves_the_last_checkpoint_chosen(pools: Pools, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="rank 0 has given up(.|\n)*rank 1: the process ended"):
        pools.run(2, die_on_one_rank, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["latest", "step-00000001", "step-00000002.partial"]
    assert value_of(tmp_path / "latest") == 1.0
    pools.run(2, save, tmp_path, 2, 2.0)
    assert sorted(os.listdir(tmp_path)) == ["latest", "step-00000001", "step-00000002"]
    assert value_of(tmp_path / "latest") == 2.0
