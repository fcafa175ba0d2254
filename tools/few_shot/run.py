"""The whole proof: makes data and backbones, trains the model and its ablations for each seed, evaluates, reports.

Each job is a command of its own; two run side by side. What a job prints is in runs/few-shot/seed-S/logs/JOB.log.
"""

import argparse
import json
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
        models: seeds to train each variant with, by its name in :data:`VARIANTS`; the model's has all.
        pages, lm_steps, vision_steps, steps, episodes: of data, stand-ins, training and evaluation.
        split: whose images are asked for.
        any_lm: go on with language models below their gate.
    """

    root: Path
    models: dict[str, tuple[int, ...]]
    pages: int
    lm_steps: int
    vision_steps: int
    steps: int
    episodes: int
    split: str
    any_lm: bool

    def variants(self, seed: int) -> list[str]:
        """Of one seed, the model first."""
        return [variant for variant, seeds in self.models.items() if seed in seeds]


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
        log, mark = (seed / "logs" / f"{name}.{ending}" for ending in ("log", "json"))
        log.parent.mkdir(parents=True, exist_ok=True)
        if mark.exists() and (before := json.loads(mark.read_text(encoding="utf-8")))["commands"] == commands:
            self.seconds[f"{seed.name}/{name}"] = before["seconds"]
            return
        began = time.monotonic()
        with log.open("w", encoding="utf-8") as file:
            for command in commands:
                print(f"$ {command}", file=file, flush=True)
                done = subprocess.run(
                    shlex.split(command), env=self.environment, stdout=file, stderr=subprocess.STDOUT, check=False
                )
                if done.returncode:
                    raise Failed(f"{seed.name} {name} ended with exit code {done.returncode}; see {log}")
        seconds = round(time.monotonic() - began, 1)
        mark.write_text(json.dumps({"commands": commands, "seconds": seconds}), encoding="utf-8")
        with self.lock:
            self.seconds[f"{seed.name}/{name}"] = seconds
            print(f"{seed.name} {name}: {seconds:.0f} s", flush=True)


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
    if "lm_without_induction" in scale.variants(number):
        blind = f"{language} {seed}/lm-without-induction --seed {number} --steps {scale.lm_steps}"
        jobs["lm-without-induction"] = f"{blind} --without-induction"
    if "random_vision_encoder" in scale.variants(number):
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
    """Ask all variants of a seed, the model itself also for its curves over numbers of examples."""
    seed = scale.root / f"seed-{number}"
    ablations = " ".join(f"{seed}/{variant}" for variant in scale.variants(number) if variant != MODEL)
    ask = f"python tools/few_shot/evaluate.py --seed {number} --split {scale.split} --episodes {scale.episodes}"
    commands = [f"{ask} --curves {seed}/{MODEL}"]
    if ablations:
        commands.append(f"{ask} {ablations}")
    return seed, "scores", commands


def main() -> int:
    """Run everything from the repository's root."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ablations = [name for name in VARIANTS if name != MODEL]
    parser.add_argument("--root", type=Path, default=Path("runs/few-shot"), help="folder for everything")
    parser.add_argument("--go-on", action="store_true", help="keep what jobs of the same commands have done before")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ablations", nargs="*", choices=ablations, default=ablations)
    parser.add_argument("--ablated-seeds", type=int, nargs="*", help="for which to train them too; default: the first")
    parser.add_argument("--split", default="test", help="test is looked at once; use validation for trials")
    parser.add_argument("--pages", type=int, default=2000, help="of each of the two datasets")
    parser.add_argument("--lm-steps", type=int, default=1100)
    parser.add_argument("--vision-steps", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=250, help="of training")
    parser.add_argument("--episodes", type=int, default=1000, help="of each setting")
    parser.add_argument("--any-lm", action="store_true", help="go on with language models that cannot copy, for tests")
    options = vars(parser.parse_args())
    seeds, ablated = tuple(options.pop("seeds")), options.pop("ablated_seeds")
    of_ablations = seeds[:1] if ablated is None else tuple(ablated)
    if not set(of_ablations) <= set(seeds):
        parser.error(f"--ablated-seeds {of_ablations}: expected some of --seeds {seeds}")
    models = {MODEL: seeds} | {name: of_ablations for name in options.pop("ablations") if of_ablations}
    if not options.pop("go_on"):
        shutil.rmtree(options["root"], ignore_errors=True)
    scale = Scale(models=models, **options)
    began = time.monotonic()
    jobs = Jobs()
    try:
        jobs.together(job for number in seeds for job in prepare(scale, number))
        jobs.together(train(scale, number, variant) for variant, some in models.items() for number in some)
        jobs.together(evaluate(scale, number) for number in seeds)
    except Failed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    write_report(scale.root, scale.models, jobs.seconds, round(time.monotonic() - began, 1))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
