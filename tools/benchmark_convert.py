"""What converting costs, beside ``cp`` of the same bytes and DeepSpeed's zero_to_fp32 of the same model.

    python tools/benchmark_convert.py --json benchmark.json

Each round runs all ways one after the other, each in a process of its own; medians are printed. The file system's cache
is warm. time_ratio_vs_cp leaves hashing aside, which reads every frozen byte once and hashes every byte written.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from tools.benchmark.large_checkpoint import write_large_checkpoint  # noqa: E402
from tools.benchmark.machine import describe_machine  # noqa: E402


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the export; three times that on disk")
    parser.add_argument("--rounds", type=int, default=5, help="of which medians are taken")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.gigabytes <= 0:
        print("--rounds and --gigabytes: expected more than 0", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="benchmark-convert-") as name:
        figures = measure(Path(name), arguments.gigabytes, arguments.rounds)
    report = {"machine": describe_machine(ROOT, 1), "rounds": arguments.rounds, "gigabytes": arguments.gigabytes}
    report |= figures
    show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(folder: Path, gigabytes: float, rounds: int) -> dict[str, object]:
    """Medians of each way, and the ratios."""
    checkpoint = write_large_checkpoint(folder, gigabytes)
    run("tools.benchmark.zero_checkpoint", str(checkpoint), str(folder / "zero"))
    whole = folder / "whole"
    run("tools.convert_to_hf", str(checkpoint), str(whole))
    sources = {"cp": whole, "ours": checkpoint, "ours without hashes": checkpoint, "zero_to_fp32": folder / "zero"}
    found: dict[str, list[dict[str, float]]] = {way: [] for way in sources}
    for _ in range(rounds):
        for way, source in sources.items():
            found[way].append(
                json.loads(run("tools.benchmark.conversion", way, str(source), str(folder / "out")).splitlines()[-1])
            )
    medians = {
        way: {key: statistics.median(one[key] for one in results) for key in results[0]}
        for way, results in found.items()
    }
    seconds = {way: values["seconds"] for way, values in medians.items()}
    memory = {way: values["peak_anonymous_mb"] for way, values in medians.items()}
    return {
        "medians": medians,
        "time_ratio_vs_cp": seconds["ours without hashes"] / seconds["cp"],
        "time_ratio_vs_cp_with_hashes": seconds["ours"] / seconds["cp"],
        "peak_anonymous_mb": memory["ours"],
        "memory_ratio_vs_zero_to_fp32": memory["ours"] / memory["zero_to_fp32"],
        "time_ratio_vs_zero_to_fp32": seconds["ours"] / seconds["zero_to_fp32"],
    }


def run(module: str, *arguments: str) -> str:
    """What a process of its own prints."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def show(figures: dict[str, object]) -> None:
    """On the terminal."""
    table = Table("", "seconds", "peak anonymous MB")
    medians = figures["medians"]
    assert isinstance(medians, dict)
    for way, values in medians.items():
        table.add_row(way, f"{values['seconds']:.2f}", f"{values['peak_anonymous_mb']:.0f}")
    console = Console()
    console.print(table)
    for name, value in figures.items():
        if isinstance(value, float):
            console.print(f"{name}: {value:.3g}")


if __name__ == "__main__":
    sys.exit(main())
