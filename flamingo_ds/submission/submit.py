"""Check, write, submit: what ``launchers/submit.py`` does."""

import argparse
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..config import EXIT_BAD_INPUT, EXIT_DONE, ConfigError, RunConfig, load_recipe, to_yaml
from ..config.load import recipe_names
from . import scheduler
from .checks import check_run, notes
from .folder import SubmissionFolder, new_submission, submitted_jobs
from .load import PREFIX, launch_yaml, load_launch
from .render import JobPlaces, render
from .schema import LaunchConfig
from .snapshot import take_snapshot

COUNTS = ("nodes", "gpus_per_node", "ranks_per_node")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see ``--help``.

    Returns:
        0, or 2 where something is wrong: then nothing was submitted.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_intermixed_args(arguments)
    try:
        _run(options, f"python launchers/submit.py {shlex.join(arguments)}")
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return EXIT_DONE


def _run(options: argparse.Namespace, command: str) -> None:
    recipe = load_recipe(options.recipe, [text for text in options.overrides if not text.startswith(PREFIX)])
    recipe.run_dir = str(Path(recipe.run_dir).resolve())
    counts = [f"{PREFIX}{name}={getattr(options, name)}" for name in COUNTS if getattr(options, name) is not None]
    launch = load_launch(options.launch, [text for text in options.overrides if text.startswith(PREFIX)] + counts)
    launch = replace(launch, job_name=launch.job_name or Path(recipe.run_dir).name)
    check_run(recipe, launch, options.deepspeed_config)
    for note in notes(recipe):
        print(note)
    folder = new_submission(Path(recipe.run_dir))
    script = _script(launch, folder, recipe, options.deepspeed_config is not None, command)
    if options.dry_run:
        print(script, end="")
        return
    if waiting := scheduler.alive(submitted_jobs(Path(recipe.run_dir))):
        raise ConfigError("run_dir", recipe.run_dir, f"a folder of no other job; job {waiting[0]} runs there, or waits")
    folder.create()
    try:
        folder.script.write_text(script, encoding="utf-8")
        print(scheduler.would_run(folder.script))
        _fill(folder, recipe, launch, options.deepspeed_config)
        jobs = _submit(folder, launch)
    except BaseException:
        folder.remove()
        raise
    _say(jobs, folder, recipe, launch)


def _script(launch: LaunchConfig, folder: SubmissionFolder, recipe: RunConfig, deepspeed: bool, command: str) -> str:
    training = {"--recipe": str(folder.recipe)}
    if deepspeed:
        training["--deepspeed_config"] = str(folder.deepspeed)
    return render(launch, training, JobPlaces(recipe.run_dir, str(folder.code), str(Path.cwd())), command)


def _fill(folder: SubmissionFolder, recipe: RunConfig, launch: LaunchConfig, deepspeed_config: str | None) -> None:
    folder.recipe.write_text(to_yaml(recipe), encoding="utf-8")
    folder.launch.write_text(launch_yaml(launch), encoding="utf-8")
    if deepspeed_config is not None:
        shutil.copyfile(deepspeed_config, folder.deepspeed)
    print(f"code of {take_snapshot(folder.code)} in {folder.code}")


def _submit(folder: SubmissionFolder, launch: LaunchConfig) -> list[str]:
    (folder.path.parents[1] / "logs" / "failures").unlink(missing_ok=True)  # those of earlier submissions
    jobs = []
    for _ in range(launch.chain):
        jobs.append(scheduler.submit(folder.script))
        folder.jobs.write_text("\n".join(jobs) + "\n", encoding="utf-8")
    return jobs


def _say(jobs: list[str], folder: SubmissionFolder, recipe: RunConfig, launch: LaunchConfig) -> None:
    run_dir = recipe.run_dir
    print(f"job {' '.join(jobs)}: {launch.job_name}, {launch.nodes} nodes x {launch.ranks_on_node} ranks")
    print(f"  file      {folder.script}")
    print(f"  state     squeue -j {','.join(jobs)}")
    print(f"  events    tail -F {run_dir}/logs/{jobs[0]}.log")
    print(f"  progress  tail -F {run_dir}/progress.log")
    print(f"  ranks     {run_dir}/logs/{jobs[0]}/")
    print(f"  stop      touch {run_dir}/stop")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python launchers/submit.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("--recipe", required=True, help=f"a YAML file or one of: {', '.join(recipe_names())}")
    parser.add_argument("--deepspeed_config", metavar="FILE", help="DeepSpeed JSON; without it ZeRO stage 1")
    parser.add_argument("--nodes", type=int, metavar="N")
    parser.add_argument("--gpus-per-node", type=int, metavar="N", help="a rank a GPU; 0: none")
    parser.add_argument("--ranks-per-node", type=int, metavar="N", help="where there are no GPUs")
    parser.add_argument("--launch", metavar="FILE", help="YAML with launch keys: what all runs on a cluster share")
    parser.add_argument("--dry-run", action="store_true", help="check, show the batch file, submit nothing")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="recipe keys, dotted; launch keys as launch.key=value"
    )
    return parser
