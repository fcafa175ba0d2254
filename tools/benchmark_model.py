"""Seconds and memory of a training step, part by part: ours, OpenFlamingo 2.0.1 and transformers' Idefics.

All in one process and in turn, so that what disturbs the machine disturbs them alike. The model: an 8 x 512 Llama of
32k words, ViT-B-32, every second block gated, B = 2 sequences of L = 256 tokens and T = 5 images. Ours has the weights
of the other in each comparison.

    make peers
    python tools/benchmark_model.py --json benchmark.json
"""

import argparse
import json
import logging
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / ".venv" / "peers")]

import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from tools.benchmark import kernels, steps  # noqa: E402
from tools.benchmark.machine import describe_machine  # noqa: E402

PARTS = ("vision", "resampler", "language model", "forward", "backward", "step", "forward MB", "backward MB")


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--rounds", type=int, default=7, help="of which medians are taken")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a tiny model and two rounds: does it run?")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.threads < 1:
        print("--rounds and --threads: expected at least 1", file=sys.stderr)
        return 2
    try:
        import flamingo_pytorch  # noqa: F401
        import open_flamingo  # noqa: F401
    except ImportError:
        print("the projects to compare with are not installed; run: make peers", file=sys.stderr)
        return 2
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)  # that a tower is random is no news here
    size = steps.TINY if arguments.quick else steps.FULL
    rounds = 2 if arguments.quick else arguments.rounds
    report = {"machine": describe_machine(ROOT, arguments.threads), "rounds": rounds}
    report |= measure_steps(size, rounds) | kernels.measure(size, rounds)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def measure_steps(size: steps.Size, rounds: int) -> dict[str, object]:
    """The three step ratios, with every part's median."""
    console, results = Console(width=120), {}
    for dtype in (torch.float32, torch.bfloat16):
        for real in (size.images, 2):
            contestants = steps.contestants(size, real, dtype)
            taken = steps.alternate(contestants, rounds)
            name = f"{str(dtype).removeprefix('torch.')}, {real} of {size.images} images real"
            table = Table("", *PARTS, title=f"seconds: {name}")
            for project, rows in taken.items():
                medians = {part: statistics.median(row[part] for row in rows) for part in PARTS}
                cells = [f"{medians[part]:.{0 if part.endswith('MB') else 3}f}" for part in PARTS]
                table.add_row(project, *cells)
                results[(project, dtype, real)] = rows
            console.print(table)
    ratios = {
        "step_ratio_vs_openflamingo_all_real": ("openflamingo", torch.float32, size.images),
        "step_ratio_vs_openflamingo_2_of_5_real": ("openflamingo", torch.float32, 2),
        "step_ratio_vs_openflamingo_bf16_all_real": ("openflamingo", torch.bfloat16, size.images),
        "step_ratio_vs_idefics_fp32": ("idefics", torch.float32, size.images),
        "step_ratio_vs_idefics_bf16": ("idefics", torch.bfloat16, size.images),
    }
    report: dict[str, object] = {}
    for key, (peer, dtype, real) in ratios.items():
        ours = "ours" if peer == "openflamingo" else "ours, idefics style"
        pairs = zip(results[(ours, dtype, real)], results[(peer, dtype, real)], strict=True)
        report[key] = statistics.median(one["step"] / other["step"] for one, other in pairs)
        console.print(f"{key}: {report[key]:.3f}")
    report["seconds"] = {
        f"{project}/{str(dtype).removeprefix('torch.')}/{real}": {
            part: statistics.median(row[part] for row in rows) for part in PARTS
        }
        for (project, dtype, real), rows in results.items()
    }
    return report


if __name__ == "__main__":
    sys.exit(main())
