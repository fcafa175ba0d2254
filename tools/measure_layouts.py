"""Memory of every layout, measured on running engines beside what tools/plan.py predicts; and what some layouts cost.

    python tools/measure_layouts.py [--json FILE] [--only memory|time] [--precision bf16|fp32]

Starts its own processes: one, two and four ranks that train a small model (tools/measure/model.py) on CPU with gloo,
one thread each. Four ranks want four cores to be timed fairly; memory does not care.
"""

import argparse
import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# Large tensors in pages of their own, so that what is freed is given back; one thread a rank; a quiet profiler.
os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1", "KINETO_LOG_LEVEL": "99"}

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from tests.distributed.pool import WorkerPool  # noqa: E402
from tools.benchmark.machine import describe_machine  # noqa: E402
from tools.measure import duration, memory  # noqa: E402
from tools.measure.model import Case, cases  # noqa: E402
from tools.measure.predicted import predict  # noqa: E402

CHECKED = 6
"""Every so many cases are measured by the system's count as well."""


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--only", choices=("memory", "time"), help="one kind of measurement; default all")
    parser.add_argument("--precision", choices=("bf16", "fp32"), help="of the memory rows; default both")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    report: dict[str, Any] = {"machine": describe_machine(ROOT, 1)}
    pools = {ranks: WorkerPool(ranks) for ranks in (1, 2, 4)}
    try:
        if options.only in (None, "memory"):
            wanted = [bf16 for bf16 in (True, False) if options.precision in (None, "bf16" if bf16 else "fp32")]
            report["memory"] = measure_memory([case for bf16 in wanted for case in cases(bf16)], pools)
        if options.only in (None, "time"):
            report["seconds"] = measure_time(pools[4])
    finally:
        for pool in pools.values():
            pool.stop()
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def measure_memory(chosen: list[Case], pools: dict[int, WorkerPool]) -> list[dict[str, Any]]:
    """A row a rank."""
    rows = []
    table = Table("precision", "layout", "recompute", "rank", "at rest", "predicted", "at most", "predicted", "off by")
    table.title = "MB of a rank"
    for case in chosen:
        layout = case.layout
        bounds, predicted = predict(case)
        measured = pools[layout.ranks].run(memory.by_allocator, case, bounds)
        for rank, (seen, told) in enumerate(zip(measured, predicted, strict=True)):
            off = told.total / seen.peak - 1
            row = {
                "precision": "bf16" if case.bf16 else "fp32",
                "layout": layout.name,
                "recompute": "block" if layout.every else "off",
                "rank": rank,
                "resting_bytes": seen.resting,
                "predicted_resting_bytes": told.resting,
                "peak_bytes": seen.peak,
                "predicted_peak_bytes": told.total,
                "difference": off,
                "predicted": asdict(told),
            }
            rows.append(row)
            sizes = (seen.resting, told.resting, seen.peak, told.total)
            shown = [f"{size / 1e6:.1f}" for size in sizes]
            table.add_row(
                *(str(row[key]) for key in ("precision", "layout", "recompute", "rank")), *shown, f"{off:+.1%}"
            )
        print(f"{layout.name}, {'block' if layout.every else 'off'}: done", file=sys.stderr)
    Console(width=120).print(table)
    return rows


def measure_time(pool: WorkerPool) -> dict[str, dict[str, float]]:
    """Median seconds of a step over the rounds, and the ratio to the first layout's within each round."""
    compared = {name: Case(layout, bf16=True) for name, layout in duration.timed_layouts().items()}
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    for _ in range(duration.ROUNDS):
        for name, case in compared.items():
            bounds, _ = predict(case)
            seconds[name].append(max(pool.run(duration.step_seconds, case, bounds)))
    base = seconds[duration.BASE]
    table = Table("layout, bf16 on four ranks", "seconds a step", "ratio", title="time, median over rounds")
    report = {}
    for name, found in seconds.items():
        ratio = median(own / first for own, first in zip(found, base, strict=True))
        report[name] = {"seconds": median(found), "ratio": ratio}
        table.add_row(name, f"{median(found):.3f}", f"{ratio:.2f}")
    Console(width=120).print(table)
    return report


if __name__ == "__main__":
    sys.exit(main())
