"""Images a second of a core: bare Pillow (the floor), ours from shard to collated batch, OpenFlamingo's way.

    python tools/benchmark_data.py --json benchmark_data.json

One process, one thread, in turn; rates are of CPU seconds, medians over rounds. Also printed: how far the pixels are
from Pillow's, what worker processes add, what packing saves in tokens and in FLOPs, and the memory of a worker over
many samples.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from flamingo_ds.data.image_transform import ImageTransform  # noqa: E402
from flamingo_ds.data.pictures import Picture  # noqa: E402
from tools.benchmark import decoding  # noqa: E402
from tools.benchmark.machine import describe_machine  # noqa: E402
from tools.benchmark.packing import flops_per_pair  # noqa: E402
from tools.benchmark.photographs import captions, photographs  # noqa: E402

SIDES = (256, 512)
WAYS = ("bare Pillow", "ours", "OpenFlamingo's")
PADDED_TO = 256


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--images", type=int, default=256, help="different JPEGs; a multiple of 32")
    parser.add_argument("--rounds", type=int, default=7, help="of which medians are taken")
    parser.add_argument("--memory-samples", type=int, default=50_000, help="that one worker decodes; 0: none")
    parser.add_argument("--recipe", default="flamingo-3b", help="whose FLOPs are counted for packing")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.images < decoding.BATCH or arguments.images % decoding.BATCH:
        print(f"--rounds: expected at least 1; --images: a multiple of {decoding.BATCH}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    files, texts = photographs(arguments.images), captions(arguments.images)
    report: dict[str, object] = {
        "machine": describe_machine(ROOT, 1),
        "images": len(files),
        "kilobytes_per_image": round(sum(map(len, files)) / len(files) / 1000, 1),
        "rounds": arguments.rounds,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        decoding.write_shards(folder, files, texts)
        report |= rates(folder, files, arguments.rounds)
        report["max_pixel_difference_of_255"] = {side: pixel_difference(files, side) for side in SIDES}
        report["images_per_s_by_workers"] = by_workers(folder)
        report |= packing(folder, arguments.recipe)
        if arguments.memory_samples:
            report["worker_memory_mb"] = worker_memory(folder, arguments.memory_samples)
    Console(width=120).print_json(json.dumps(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def rates(folder: Path, files: list[bytes], rounds: int) -> dict[str, object]:
    """Images a CPU second; a pair is one sample, so these are samples a second too."""
    table = Table("images a second of a core", *WAYS, "ours / floor", "ours / OpenFlamingo's")
    found: dict[str, object] = {}
    ratios: dict[str, dict[int, float]] = {"floor": {}, "openflamingo": {}}
    batches = len(files) // decoding.BATCH
    for side in SIDES:
        takes = {
            "bare Pillow": partial(_take, partial(decoding.bare_pillow, files, side), len(files)),
            "ours": partial(_take, decoding.mixture(folder, side, workers=0).__iter__, batches),
            "OpenFlamingo's": partial(_take, partial(decoding.openflamingo, folder, side), batches),
        }
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(rounds + 1):
            for way in WAYS:
                taken = decoding.seconds_of(takes[way])
                if number:  # the first warms up
                    seconds[way].append(taken)
        speeds = {way: len(files) / statistics.median(seconds[way]) for way in WAYS}
        ratios["floor"][side] = _ratio(seconds["bare Pillow"], seconds["ours"])
        ratios["openflamingo"][side] = _ratio(seconds["OpenFlamingo's"], seconds["ours"])
        found[f"images_per_s_{side}"] = {way: round(speed, 1) for way, speed in speeds.items()}
        table.add_row(
            f"{side} pixels",
            *(f"{speeds[way]:.0f}" for way in WAYS),
            f"{ratios['floor'][side]:.2f}",
            f"{ratios['openflamingo'][side]:.2f}",
        )
    Console(width=120).print(table)
    return {
        **found,
        "images_per_s_ratio_vs_floor": {side: round(ratio, 3) for side, ratio in ratios["floor"].items()},
        "images_per_s_ratio_vs_openflamingo": {side: round(ratio, 3) for side, ratio in ratios["openflamingo"].items()},
    }


def _take(start: Callable[[], Iterator[Any]], count: int) -> None:
    decoding.exhaust(start(), count)()


def _ratio(theirs: list[float], ours: list[float]) -> float:
    """Of the same round each, so that what slows the machine slows both."""
    return statistics.median(one / other for one, other in zip(theirs, ours, strict=True))


def pixel_difference(files: list[bytes], side: int) -> int:
    """The largest over all pictures, in steps of 1/255, at the same geometry."""
    transform = ImageTransform.of(decoding.processor(side))
    worst = 0
    for content in files:
        pixels = transform(Picture(content).decode(transform.target())).permute(1, 2, 0).numpy()
        difference = pixels.astype(int) - decoding.pillow_pixels(content, side)
        worst = max(worst, int(numpy.abs(difference).max()))
    return worst


def by_workers(folder: Path, batches: int = 24) -> dict[int, float]:
    """Wall-clock images a second of 0, 1, 2 ... workers, up to as many as there are cores."""
    found = {}
    for workers in range((os.cpu_count() or 1) + 1):
        mixture = decoding.mixture(folder, SIDES[0], workers)
        decoding.exhaust(iter(mixture), 4)()
        began = time.monotonic()
        decoding.exhaust(iter(mixture), batches)()
        found[workers] = round(batches * decoding.BATCH / (time.monotonic() - began), 1)
        mixture.close()
    return found


def packing(folder: Path, recipe: str) -> dict[str, object]:
    """Shares of real tokens and the compute of a pair, packed and padded to L = 256."""
    shares, pairs, sequences = [], 0, 0
    mixture = decoding.mixture(folder, 32, 0, pack=True, max_tokens=PADDED_TO, max_images=16)
    for _ in range(4):
        (micro,) = next(mixture)
        shares.append(micro.batch.num_tokens() / micro.batch.attention_mask.numel())
        pairs += int(micro.batch.num_images.sum())
        sequences += len(micro.batch)
    padded = decoding.mixture(folder, 32, 0)
    (micro,) = next(padded)
    packed, alone = flops_per_pair(recipe, PADDED_TO, pairs / sequences)
    return {
        "real_token_share": round(statistics.mean(shares), 4),
        "real_token_share_padded": round(micro.batch.num_tokens() / (PADDED_TO * len(micro.batch)), 4),
        "pairs_per_sequence": round(pairs / sequences, 2),
        "flops_per_pair_ratio": round(packed / alone, 4),
        "flops_per_pair_recipe": recipe,
    }


def worker_memory(folder: Path, samples: int) -> dict[int, float]:
    """Resident megabytes of the one worker after so many samples."""
    mixture = decoding.mixture(folder, 64, workers=1)
    found, done = {}, 0
    for mark in (samples * part // 5 for part in range(1, 6)):
        while done < mark:
            next(mixture)
            done += decoding.BATCH
        (worker,) = mixture.pool.processes()
        pages = int(Path(f"/proc/{worker}/statm").read_text().split()[1])
        found[mark] = round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
    mixture.close()
    return found


if __name__ == "__main__":
    sys.exit(main())
