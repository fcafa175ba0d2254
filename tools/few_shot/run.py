"""The whole proof: makes data and backbones, trains the model and its ablations for each seed, evaluates, reports.

Each job is a command of its own; two run side by side. What a job prints is in runs/few-shot/seed-S/logs/JOB.log.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

sys.path.insert(0, str(Path(__file__).parents[1]))
from few_shot.report import write_report
from few_shot.variants import MODEL, VARIANTS


@dataclass(frozen=True)
class Scale:
    """How large a proof is.

    Attributes:
        root: folder for everything.
        seeds: one whole proof each.
        variants: names of :data:`VARIANTS`.
        pages, lm_steps, vision_steps, steps, episodes: of data, stand-ins, training and evaluation.
        split: whose images are asked for.
        any_lm: go on with language models below their gate.
    """

    root: Path
    seeds: tuple[int, ...]
    variants: tuple[str, ...]
    pages: int
    lm_steps: int
    vision_steps: int
    steps: int
    episodes: int
    split: str
    any_lm: bool


class Failed(RuntimeError):
    """A job ended with another exit code than 0."""


class Jobs:
    """Runs commands, two at a time, from the repository's root.

    Attributes:
        seconds: of each job that is done.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.lock = Lock()
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }

    def together(self, jobs: Iterable[tuple[Path, str, list[str]]]) -> None:
        """Run all jobs (folder of their seed, name, commands one after another).

        Raises:
            Failed: the first that fails; no other starts then.
        """
        with ThreadPoolExecutor(2) as pool:
            started = [pool.submit(self._run, *job) for job in jobs]
            try:
                for future in started:
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _run(self, seed: Path, name: str, commands: list[str]) -> None:
        log = seed / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        with log.open("w", encoding="utf-8") as file:
            for command in commands:
                print(f"$ {command}", file=file, flush=True)
                done = subprocess.run(
                    shlex.split(command), env=self.environment, stdout=file, stderr=subprocess.STDOUT, check=False
                )
                if done.returncode:
                    raise Failed(f"{seed.name} {name} ended with exit code {done.returncode}; see {log}")
        with self.lock:
            self.seconds[f"{seed.name}/{name}"] = round(time.monotonic() - began, 1)
            print(f"{seed.name} {name}: {self.seconds[f'{seed.name}/{name}']:.0f} s", flush=True)


def prepare(scale: Scale, number: int) -> list[tuple[Path, str, list[str]]]:
    """Data and stand-ins of a seed."""
    seed = scale.root / f"seed-{number}"
    language, vision = "python tools/few_shot/train_language_model.py", "python tools/few_shot/train_vision_encoder.py"
    gate = " --gate 0" if scale.any_lm else ""
    jobs = {
        "lm": f"{language} {seed}/lm --seed {number} --steps {scale.lm_steps}{gate}",
        "clip": f"{vision} {seed}/clip --seed {number} --steps {scale.vision_steps}",
        "shards": f"python tools/few_shot/make_shards.py {seed}/shards --seed {number} --pages {scale.pages}",
    }
    if "lm_without_induction" in scale.variants:
        blind = f"{language} {seed}/lm-without-induction --seed {number} --steps {scale.lm_steps}"
        jobs["lm-without-induction"] = f"{blind} --without-induction"
    if "random_vision_encoder" in scale.variants:
        jobs["clip-random"] = f"{vision} {seed}/clip-random --seed {number} --steps 0"
    return [(seed, name, [command]) for name, command in jobs.items()]


def train(scale: Scale, number: int, variant: str) -> tuple[Path, str, list[str]]:
    """Train one variant with the trainer, and export it."""
    seed = scale.root / f"seed-{number}"
    keys = [
        f"run_dir={seed}/{variant}",
        f"seed={number}",
        f"model.language_model.source={seed}/lm",
        f"model.vision_encoder.source=local-dir:{seed}/clip",
        *(f"'data.datasets.{name}.shards={seed}/shards/{name}-*.tar'" for name in ("clean", "noisy")),
        f"train.max_steps={scale.steps}",
        f"train.save_every={scale.steps}",
        *(key.format(seed=seed) for key in VARIANTS[variant]),
    ]
    return (
        seed,
        variant,
        [
            f"python -m flamingo_ds.train --recipe few-shot {' '.join(keys)}",
            f"python tools/convert_to_hf.py {seed}/{variant}/checkpoints/latest {seed}/{variant}/hf",
        ],
    )


def evaluate(scale: Scale, number: int) -> tuple[Path, str, list[str]]:
    """Ask all variants of a seed, the model itself also for the graded curve."""
    seed = scale.root / f"seed-{number}"
    ablations = " ".join(f"{seed}/{variant}" for variant in scale.variants if variant != MODEL)
    ask = f"python tools/few_shot/evaluate.py --seed {number} --split {scale.split} --episodes {scale.episodes}"
    commands = [f"{ask} --graded {seed}/{MODEL}"]
    if ablations:
        commands.append(f"{ask} {ablations}")
    return seed, "scores", commands


def main() -> int:
    """Run everything from the repository's root."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs/few-shot"), help="folder for everything; emptied first")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--split", default="test", help="test is looked at once; use validation for trials")
    parser.add_argument("--pages", type=int, default=2000, help="of each of the two datasets")
    parser.add_argument("--lm-steps", type=int, default=800)
    parser.add_argument("--vision-steps", type=int, default=600)
    parser.add_argument("--steps", type=int, default=200, help="of training")
    parser.add_argument("--episodes", type=int, default=1000, help="of each setting")
    parser.add_argument("--any-lm", action="store_true", help="go on with language models that cannot copy, for tests")
    options = vars(parser.parse_args())
    seeds, variants = tuple(options.pop("seeds")), tuple(options.pop("variants"))
    scale = Scale(seeds=seeds, variants=variants, **options)
    if MODEL not in scale.variants:
        parser.error(f"--variants: {MODEL} must be among them")
    shutil.rmtree(scale.root, ignore_errors=True)
    began = time.monotonic()
    jobs = Jobs()
    try:
        jobs.together(job for number in scale.seeds for job in prepare(scale, number))
        jobs.together(train(scale, number, variant) for variant in scale.variants for number in scale.seeds)
        jobs.together(evaluate(scale, number) for number in scale.seeds)
    except Failed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    write_report(scale.root, scale.seeds, scale.variants, jobs.seconds, round(time.monotonic() - began, 1))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
