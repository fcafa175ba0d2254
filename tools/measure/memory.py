"""Bytes that one rank holds while it trains, by the allocator's own events, and two other ways that check these.

torch's profiler sees every block that the CPU's allocator gives and takes back, whoever asked for it. It runs from
before the engine is built, as it knows no block that is older than itself, and it misses blocks that another thread
frees: so collectives are left a moment to let go of their tensors, and a measurement whose sum at rest is not that of
the tensors found alive, or that ends with more than it began with, is repeated with more patience. The second check is
what Linux says that the process has in memory.

Copies that gloo makes inside a collective are left out: NCCL makes none.
"""

import ctypes
import gc
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile, record_function

from .model import Case, build, micro_batches

WARM_STEPS = 2
MARK = "measured step"
PATIENCE = (0.002, 0.01, 0.04)
"""Seconds behind each collective, attempt by attempt."""
TOLERANCE = 0.002
"""Of the sum at rest: tensors of some bytes come and go with Python's whims."""


@dataclass(frozen=True)
class Seen:
    """Bytes of a rank: between two steps, and at the worst moment of a step."""

    resting: int
    peak: int


def by_allocator(case: Case, bounds: tuple[int, ...]) -> Seen:
    """What the allocator gave and took. Collective.

    Raises:
        AssertionError: frees were missed, however long collectives were waited for.
    """
    for patience in PATIENCE:
        seen, missed = _profiled(case, bounds, patience)
        worst = torch.tensor(missed / seen.resting)
        dist.all_reduce(worst, dist.ReduceOp.MAX)
        if worst <= TOLERANCE:
            return seen
    raise AssertionError(f"{missed} bytes of {seen.resting} at rest are not accounted for")


def _profiled(case: Case, bounds: tuple[int, ...], patience: float) -> tuple[Seen, int]:
    """The figures, and by how much they contradict themselves."""
    make, batch = build(case, bounds), micro_batches(case.layout)
    gc.collect()
    before = _living()
    with _patient_waits(patience), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        engine = make()
        for _ in range(WARM_STEPS):
            engine.train_step(batch, 1e-4, {})
        gc.collect()
        census = sum(size for key, size in _living().items() if key not in before)
        with record_function(MARK):
            engine.train_step(batch, 1e-4, {})
            gc.collect()
    del engine
    gc.collect()
    resting, peak, left = _read(profiled)
    return Seen(resting, peak), max(abs(census - resting), abs(left - resting))


@contextmanager
def _patient_waits(patience: float) -> Iterator[None]:
    """Let the communication thread drop its tensors first, so that this thread frees them and the profiler sees it."""
    wait = dist.Work.wait

    def patient(work: dist.Work, *arguments: Any) -> Any:
        answer = wait(work, *arguments)
        time.sleep(patience)
        return answer

    with patch.object(dist.Work, "wait", patient):
        yield


def _read(profiled: profile) -> tuple[int, int, int]:
    """Bytes before the marked step, at its worst moment, and behind it."""
    assert profiled.profiler is not None
    changes: list[tuple[int, int, int, bool]] = []
    start = end = 0
    stack = [(node, False) for node in profiled.profiler.kineto_results.experimental_event_tree()]
    while stack:
        node, inside = stack.pop()
        if node.tag.name == "Allocation":
            fields = node.extra_fields
            changes.append((node.start_time_ns, fields.ptr, fields.alloc_size, inside))
            continue
        if node.name == MARK:
            start, end = node.start_time_ns, node.end_time_ns
        inside = inside or node.name.startswith(("c10d::", "gloo:"))
        stack.extend((child, inside) for child in node.children)
    return _follow(sorted(changes, key=lambda change: change[0]), start, end)


def _follow(changes: list[tuple[int, int, int, bool]], start: int, end: int) -> tuple[int, int, int]:
    live = resting = peak = left = 0
    of_gloo: set[int] = set()
    for when, address, size, inside in changes:
        if size > 0 and inside:
            of_gloo.add(address)
        elif size > 0:
            of_gloo.discard(address)  # given anew, so it was freed unseen
            live += size
        elif address in of_gloo:
            of_gloo.discard(address)
        else:
            live += size
        if when < start:
            resting = peak = left = live
        elif when < end:
            peak, left = max(peak, live), live
    return resting, peak, left


def by_system(case: Case, bounds: tuple[int, ...]) -> Seen:
    """What the process has in memory by Linux's count, to some MB, gloo's copies among it.

    In a process that has trained before, as libraries make buffers when first used, and that was never profiled. Blocks
    that were never written to are none.
    """
    make, batch = build(case, bounds), micro_batches(case.layout)
    before = _settled()
    engine = make()
    for _ in range(WARM_STEPS):
        engine.train_step(batch, 1e-4, {})
    resting = _settled()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    engine.train_step(batch, 1e-4, {})
    peak = _status("VmHWM")
    del engine
    gc.collect()
    return Seen(resting - before, peak - before)


def _settled() -> int:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return _status("VmRSS")


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {key}")


def _living() -> dict[int, int]:
    """Address -> bytes of every tensor's storage that Python can find."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of objects that do not like to be asked what they are
        things = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    for thing in things:
        if type(thing) in (torch.Tensor, torch.nn.Parameter) and not thing.is_meta:
            storage = thing.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return found
