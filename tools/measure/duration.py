"""Seconds of a step, layout beside layout: every round builds and times all of them, so that a busy machine is fair."""

import time
from statistics import median

import torch.distributed as dist

from flamingo_ds.parallel.planning import Layout

from .model import Case, build, micro_batches

ROUNDS, WARM_STEPS, STEPS = 5, 2, 6
BASE = "pipeline 2 x data 2"


def timed_layouts() -> dict[str, Layout]:
    """What is compared on four ranks: the first with the others."""
    plain, sharded = Layout(1, 2, 2), Layout(1, 2, 2, shard_frozen=True)
    return {
        BASE: plain,
        "the same, every block recomputed": Layout(1, 2, 2, every=1),
        "frozen weights sharded": sharded,
        "frozen weights sharded, kept from forward to backward": Layout(1, 2, 2, shard_frozen=True, reshard=False),
    }


def step_seconds(case: Case, bounds: tuple[int, ...]) -> float:
    """Median of one round. Collective."""
    engine, batch = build(case, bounds)(), micro_batches(case.layout)
    seconds = []
    for number in range(WARM_STEPS + STEPS):
        dist.barrier()
        began = time.perf_counter()
        engine.train_step(batch, 1e-4, {})
        if number >= WARM_STEPS:
            seconds.append(time.perf_counter() - began)
    return median(seconds)
