"""The batch file: what was asked for as ``#SBATCH`` lines and variables, then the same script for every job."""

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files

from ..errors import ConfigError
from .schema import LaunchConfig, Preflight, Starter


@dataclass(frozen=True)
class JobPlaces:
    """Where a job finds and puts things; absolute, or relative to ``folder``.

    Attributes:
        run_dir: of the run.
        code: that the ranks run: a folder with ``flamingo_ds`` and ``launchers``.
        folder: that the job works in, from which a recipe's relative paths count.
    """

    run_dir: str
    code: str
    folder: str | None


def render(launch: LaunchConfig, training: Mapping[str, str], places: JobPlaces, made_by: str) -> str:
    """The whole file.

    Args:
        launch: the description.
        training: options of ``flamingo_ds.train``.
        places: of the run and its code.
        made_by: a line on where the file comes from.

    Raises:
        ConfigError: a path that SLURM would not take as it is.
    """
    for path in (places.run_dir, places.folder or ""):
        if any(character in path for character in '%"\\\n'):
            raise ConfigError("run_dir", path, "a path without %, quotes and backslashes, which SLURM reads otherwise")
    head = ["#!/bin/bash", f"# {made_by}", *_directives(launch, places), "", "set -euo pipefail", ""]
    body = (files(__package__) / "job.sh").read_text(encoding="utf-8")
    return "\n".join([*head, *_variables(launch, training, places), ""]) + body


def _directives(launch: LaunchConfig, places: JobPlaces) -> Iterator[str]:
    cpus = launch.cpus_per_rank
    options: dict[str, object] = {
        "job-name": launch.job_name,
        "nodes": launch.nodes,
        "ntasks-per-node": launch.ranks_on_node,
        "gpus-per-node": launch.gpus_per_node or None,
        "cpus-per-task": cpus,
        "mem": launch.memory,
        "time": launch.time,
        "partition": launch.partition,
        "account": launch.account,
        "qos": launch.qos,
        "constraint": launch.constraint,
        "reservation": launch.reservation,
        "nodelist": launch.nodelist,
        "exclude": launch.exclude,
        "chdir": places.folder,
        "output": f"{places.run_dir}/logs/%j.log",
        "open-mode": "append",
        "signal": f"B:USR1@{launch.warning_s}",
    }
    for name, value in options.items():
        if value is not None:
            yield f"#SBATCH --{name}={_quoted(str(value))}"
    if launch.exclusive:
        yield "#SBATCH --exclusive"
    yield "#SBATCH --requeue" if launch.requeues else "#SBATCH --no-requeue"
    if launch.chain > 1:
        yield "#SBATCH --dependency=singleton"
    yield from (f"#SBATCH {option}" for option in launch.sbatch)


def _variables(launch: LaunchConfig, training: Mapping[str, str], places: JobPlaces) -> Iterator[str]:
    yield f"RUN_DIR={shlex.quote(places.run_dir)}"
    yield f"CODE={shlex.quote(places.code)}"
    yield f"PYTHON={shlex.quote(launch.python)}"
    for text, meaning in (
        (f"REQUEUE={int(launch.requeues)}", "1: queue again when stopped, preempted or failed"),
        (f"MAX_RESTARTS={launch.max_restarts}", "after failures, and never twice at the same step"),
        (f"MAX_EXCLUSIONS={launch.max_exclusions}", "of nodes that the preflight found bad"),
        (
            f"PREFLIGHT_MINUTES={math.ceil(launch.preflight_s / 60) + 2}",
            "of its step; the preflight's own limit is shorter",
        ),
        (f"PREFLIGHT=({' '.join(_preflight(launch))})", "options of launchers/preflight.py; empty: none"),
        (f"export FLAMINGO_WARNING_S={launch.warning_s}", "as in --signal: ranks say when a save takes longer"),
    ):
        yield f"{text:<20} # {meaning}"
    yield from (f"export {name}={shlex.quote(value)}" for name, value in launch.environment.items())
    if launch.modules:
        names = " ".join(map(shlex.quote, launch.modules))
        yield f"set +u; module load {names}; set -u # modules use unset variables"
    step = " ".join(map(shlex.quote, ("srun", "--nodes=1", "--ntasks=1", *_container(launch))))
    text = f'HELPER=({step} "$PYTHON")' if launch.container.image is not None else 'HELPER=("$PYTHON")'
    yield f"{text:<20} # what this script asks about the run"
    yield "SRUN=( # a task that fails ends all"
    yield from (f"  {shlex.quote(option)}" for option in _srun(launch))
    yield ")"
    yield from _tasks(launch)
    yield "TRAIN=("
    yield from (f"  {argument}" for argument in _training(launch, training))
    yield ")"


def _preflight(launch: LaunchConfig) -> Iterator[str]:
    if launch.preflight is not Preflight.none:
        yield f"--time-limit {launch.preflight_s}"
        if launch.gpus_per_node:
            yield f"--gpus-per-node {launch.gpus_per_node}"
        if launch.preflight is Preflight.quick:
            yield "--without-collectives"


def _srun(launch: LaunchConfig) -> Iterator[str]:
    yield "--kill-on-bad-exit=1"
    yield f"--wait={launch.wait_s}"
    yield from _container(launch)
    yield from launch.srun


def _container(launch: LaunchConfig) -> Iterator[str]:
    if launch.container.image is not None:
        yield f"--container-image={launch.container.image}"
    if launch.container.mounts:
        yield f"--container-mounts={','.join(launch.container.mounts)}"
    yield from launch.container.arguments


def _tasks(launch: LaunchConfig) -> Iterator[str]:
    if launch.starter is Starter.srun:
        yield "TASKS=() # of training: a task a rank"
        return
    options = '--ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1'
    if launch.cpus_per_rank is not None:
        options += f" --cpus-per-task={launch.cpus_per_rank * launch.ranks_on_node}"
    yield f"TASKS=({options}) # of training: a task a node, which starts its ranks"
    yield f"export PYTHON RANKS_PER_NODE={launch.ranks_on_node}"


def _training(launch: LaunchConfig, training: Mapping[str, str]) -> Iterator[str]:
    if launch.starter is Starter.srun:
        yield '"$PYTHON" -m flamingo_ds.train --resume'
    else:
        yield f'"$CODE/launchers/agent.sh" {launch.starter} --resume'
    yield from (f"{option} {shlex.quote(value)}" for option, value in training.items())


def _quoted(value: str) -> str:
    return f'"{value}"' if any(character in value for character in " '&|") else value
