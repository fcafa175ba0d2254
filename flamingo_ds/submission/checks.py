"""What can be known before a job waits in the queue for hours: that what it names is there, and that its parts fit."""

import glob
import math
import re
from collections.abc import Iterator
from pathlib import Path

import braceexpand

from ..config import ConfigError, RunConfig, load_deepspeed_settings, plan_batches
from .schema import LaunchConfig

SAVED = re.compile(r"saved .* in (\d+\.\d) s; training stood still")


def check_run(recipe: RunConfig, launch: LaunchConfig, deepspeed_config: str | None) -> None:
    """Hold a recipe against the ranks that are asked for, and look for every path in it.

    Raises:
        ConfigError: the first thing found wrong.
    """
    ranks, stages = launch.world_size, recipe.parallel.pipeline_stages
    if ranks % stages:
        raise ConfigError("parallel.pipeline_stages", stages, f"a divisor of the {ranks} ranks of this job")
    plan_batches(recipe, ranks // stages)
    load_deepspeed_settings(deepspeed_config, recipe, ranks // stages)
    for key, path in _paths(recipe):
        if not glob.glob(path):
            raise ConfigError(key, path, "a path that is there, seen from this folder")
    _check_run_folder(Path(recipe.run_dir), launch)


def notes(recipe: RunConfig) -> Iterator[str]:
    """What is allowed and yet may not be meant, a line each."""
    run_dir = Path(recipe.run_dir).resolve()
    if run_dir.is_relative_to("/tmp") or run_dir.is_relative_to("/dev/shm"):  # noqa: S108
        yield f"note: run_dir = {run_dir}: on most clusters every node has another {run_dir.parts[1]}"


def _check_run_folder(run_dir: Path, launch: LaunchConfig) -> None:
    if (run_dir / "finished").exists():
        raise ConfigError("run_dir", str(run_dir), f"a run with steps to do; remove {run_dir / 'finished'} to go on")
    if (run_dir / "stop").exists():
        raise ConfigError("run_dir", str(run_dir), f"a run that may start; remove {run_dir / 'stop'} first")
    longest = max(_saves(run_dir), default=0.0)
    if launch.warning_s < 2 * longest:
        expected = f"at least {math.ceil(2 * longest)}: a save of this run took {longest:.1f} s, and a step comes first"
        raise ConfigError("launch.warning_s", launch.warning_s, expected)


def _saves(run_dir: Path) -> Iterator[float]:
    """Seconds of each save, by rank 0's logs of all jobs."""
    for log in run_dir.glob("logs/*/*-0.log"):
        yield from map(float, SAVED.findall(log.read_text(encoding="utf-8", errors="replace")))


def _paths(recipe: RunConfig) -> Iterator[tuple[str, str]]:
    """Files and folders that the recipe names, not what a hub or a network has."""
    language, vision = recipe.model.language_model, recipe.model.vision_encoder
    if _is_path(language.source):
        yield "model.language_model.source", glob.escape(language.source)
    if vision.source.startswith("local-dir:"):
        yield "model.vision_encoder.source", glob.escape(vision.source.removeprefix("local-dir:"))
    elif _is_path(vision.source):
        yield "model.vision_encoder.source", glob.escape(vision.source)
    for name, dataset in recipe.data.datasets.items():
        if not re.match(r"pipe:|[a-z0-9]+://", dataset.shards):
            yield from ((f"data.datasets.{name}.shards", path) for path in braceexpand.braceexpand(dataset.shards))


def _is_path(source: str) -> bool:
    """A hub's name has one slash at most, and does not begin with one."""
    return not source.startswith("hf-hub:") and (source.startswith((".", "/")) or source.count("/") > 1)
