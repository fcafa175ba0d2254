"""What engines promise beside the training itself."""

from typing import Any

import pytest
import torch

from flamingo_ds.data import MicroBatch

from . import tiny_run
from .conftest import Pools
from .tiny_run import Layout


def gates(layout: Layout) -> tuple[dict[str, float], bool]:
    engine: Any = tiny_run.build(layout)
    model = engine.engine.module
    kept = all(buffer.dtype == torch.float32 for buffer in model.buffers() if buffer.is_floating_point())
    return engine.gates(), kept


def stop_on_one_rank() -> list[int]:
    """Only rank 1 asks to stop; every rank must hear of it after the same step."""
    engine = tiny_run.build(Layout(zero=3))
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    micro = tiny_run.micro_batches(0, rank, world_size, 1)
    return [engine.train_step(micro, 1e-3, {"stop": int(rank == 1 and step == 1)}).counters["stop"] for step in (0, 1)]


def without_images_on_one_rank() -> list[float]:
    """Rank 1 has no image in its batch: the vision path must still run there, or ZeRO-3 waits for ever."""
    engine = tiny_run.build(Layout(zero=3))
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    micro = tiny_run.micro_batches(0, rank, world_size, 1)
    if rank == 1:
        for one in micro:
            one.batch.num_images.zero_()
            one.batch.media_ids.zero_()
    return [engine.train_step(micro, 1e-3, {}).loss for _ in range(2)]


def without_images(layout: Layout) -> list[float]:
    """No image in the first replica's batches, or in anybody's: the pipeline still crosses and everything steps."""
    engine = tiny_run.build(layout)
    topology = layout.topology()
    losses = []
    for replicas in (1, 1, topology.data_ranks, topology.data_ranks):
        micro = tiny_run.micro_batches(0, topology.data_rank, topology.data_ranks, 1)
        if not topology.is_first:
            micro = [MicroBatch(one.dataset, one.weight, one.batch[:0]) for one in micro]
        elif topology.data_rank < replicas:
            for one in micro:
                one.batch.num_images.zero_()
                one.batch.media_ids.zero_()
        losses.append(engine.train_step(micro, 1e-3, {}).loss)
    return losses


@pytest.mark.parametrize("layout", [Layout(zero=1, bf16=True), Layout(zero=3, bf16=True), Layout(stages=2, bf16=True)])
def test_gates_are_told_and_float_buffers_stay_fp32(pools: Pools, layout: Layout) -> None:
    """Rotary frequencies in bf16 would make the trained model another one than the exported."""
    for values, kept in pools.run(2, gates, layout):
        expected = pytest.approx(torch.tensor(0.5).tanh().item(), rel=4e-3)  # bf16 holds 8 bits
        blocks = range(tiny_run.BLOCKS)
        assert values == {f"gate/{block}/{kind}": expected for block in blocks for kind in ("attn", "ffw")}
        assert kept


def test_one_rank_stops_all(pools: Pools) -> None:
    assert pools.run(2, stop_on_one_rank) == [[0, 1], [0, 1]]


def test_a_rank_without_images_does_not_hang_zero3(pools: Pools) -> None:
    first, second = pools.run(2, without_images_on_one_rank)
    assert first == second
    assert first[1] < first[0]


@pytest.mark.parametrize("shard_frozen", [False, True])
def test_stages_without_images_do_not_hang(pools: Pools, shard_frozen: bool) -> None:
    first, *others = pools.run(4, without_images, Layout(stages=2, shard_frozen=shard_frozen))
    assert all(other == first for other in others)
    assert first[1] < first[0]
    assert first[3] < first[2]
