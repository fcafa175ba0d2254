"""A collective that one rank enters late: both name themselves, each other, the step and the kind of batch."""

import os
import time

import torch
import torch.distributed as dist

from flamingo_ds.parallel import Watchdog, connect_store, read_launch

from .conftest import Pools

PATIENCE, LATE = 1.0, 3.0


def enter_late() -> list[str]:
    """Rank 0 reads data for ``LATE`` seconds while rank 1 waits for it in an all-reduce."""
    lines: list[str] = []
    launch = read_launch(os.environ)
    with Watchdog(launch.rank, launch.world_size, PATIENCE, lines.append, connect_store(launch)) as watchdog:
        watchdog.at(41, "optimizer step")
        dist.barrier()
        watchdog.at(42, "reading data")
        if launch.rank == 0:
            time.sleep(LATE)
        watchdog.doing("forward of pages")
        dist.all_reduce(torch.ones(1))
        watchdog.doing("optimizer step")
        time.sleep(0.3)
        dist.barrier()  # neither leaves while the other still asks
    return lines


def mixed_kinds() -> list[str]:
    """Each rank in a kind of batch of its own, as long as it takes to find out."""
    lines: list[str] = []
    launch = read_launch(os.environ)
    with Watchdog(launch.rank, launch.world_size, PATIENCE, lines.append, connect_store(launch)) as watchdog:
        watchdog.at(7, "forward of pages" if launch.rank == 0 else "forward of pairs")
        time.sleep(1.8 * PATIENCE)
        dist.barrier()
    return lines


def test_a_late_rank_is_named(pools: Pools) -> None:
    late, waiting = pools.run(2, enter_late)
    line, _, stack = waiting[0].partition("\n")
    assert line.startswith("watchdog: rank 1 has waited 1 s at step 42 in forward of pages (entry 1); ")
    assert line.endswith("; behind: rank 0 at step 42 in reading data (entry 0)")
    assert "in enter_late" in stack
    assert "all_reduce" in stack
    assert "; ahead: rank 1 at step 42 in forward of pages (entry 1)" in late[0]
    assert "goes on at step 42 in optimizer step (entry 2); it had waited" in waiting[-1]


def test_mixed_kinds_are_named_on_both_ranks(pools: Pools) -> None:
    for rank, lines in enumerate(pools.run(2, mixed_kinds)):
        other = f"rank {1 - rank} in forward of {'pairs' if rank == 0 else 'pages'}"
        assert f"; in another kind of batch at the same entry: {other}; all ranks must run the same kinds" in lines[0]
