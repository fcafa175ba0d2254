"""A launch description from a file and the command line, as a typed, checked object."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ..config.typecheck import COMMAND_LINE, check_types
from ..errors import ConfigError
from .schema import LaunchConfig

PREFIX = "launch."
POSITIVE = ("nodes", "cpus_per_rank", "warning_s", "preflight_s", "chain", "wait_s")
AT_LEAST_ZERO = ("gpus_per_node", "max_restarts", "max_exclusions")
# As SLURM writes a time: minutes, minutes:seconds, hours:minutes:seconds, and each of them behind days.
TIME = re.compile(r"(\d+-)?\d+(:\d+){0,2}")
NAME = re.compile(r"[A-Za-z_]\w*")
# What the description itself says; given a second time, one of both would hold without a word.
SAID_BY_KEYS = {
    "-N": "nodes",
    "--nodes": "nodes",
    "-n": "ranks_per_node",
    "--ntasks": "ranks_per_node",
    "--ntasks-per-node": "ranks_per_node",
    "-G": "gpus_per_node",
    "--gpus": "gpus_per_node",
    "--gres": "gpus_per_node",
    "--gpus-per-node": "gpus_per_node",
    "--gpus-per-task": "gpus_per_node",
    "-c": "cpus_per_rank",
    "--cpus-per-task": "cpus_per_rank",
    "-t": "time",
    "--time": "time",
    "-p": "partition",
    "--partition": "partition",
    "--signal": "warning_s",
}


def load_launch(file: str | None, overrides: Sequence[str] = ()) -> LaunchConfig:
    """A whole, checked description.

    Args:
        file: YAML with keys of :class:`LaunchConfig`, what is the same for all runs on a cluster; or None.
        overrides: ``launch.key=value``, later ones win.

    Raises:
        ConfigError: unknown key, wrong type or value, missing key, no such file.
    """
    given = _read(file) if file is not None else OmegaConf.create({})
    for override in overrides:
        given = OmegaConf.merge(given, _override(override))  # type: ignore[assignment]
    merged = OmegaConf.merge(OmegaConf.structured(LaunchConfig), given)
    missing = sorted(OmegaConf.missing_keys(merged))
    if missing:
        raise ConfigError(f"{PREFIX}{missing[0]}", None, f"a value: --{missing[0].replace('_', '-')} N")
    launch = OmegaConf.to_object(merged)
    assert isinstance(launch, LaunchConfig)
    _check(launch)
    return launch


def launch_yaml(launch: LaunchConfig) -> str:
    """The description as a text that :func:`load_launch` reads back."""
    return OmegaConf.to_yaml(OmegaConf.structured(launch))


def _read(file: str) -> DictConfig:
    if not Path(file).is_file():
        raise ConfigError("--launch", file, "the path of a YAML file; there is no such file")
    try:
        content = OmegaConf.load(file)
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        raise ConfigError("--launch", file, f"valid YAML; {' '.join(str(error).split())}") from error
    if not isinstance(content, DictConfig):
        raise ConfigError("--launch", file, "a YAML mapping of keys to values")
    check_types(OmegaConf.to_container(content, resolve=False), file, LaunchConfig, PREFIX.rstrip("."))
    return content


def _override(override: str) -> Any:
    key, equals, value = override.removeprefix(PREFIX).partition("=")
    if not equals or not key:
        raise ConfigError("override", override, "launch.key=value, such as launch.partition=gpu")
    try:
        content = OmegaConf.from_dotlist([f"{key}={value}"])
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(PREFIX + key, value, "a YAML value (command line)") from error
    if key in ("time", "memory"):  # 1:30:00 is a number of YAML 1.1, in base 60
        content = OmegaConf.create({key: value})
    check_types(OmegaConf.to_container(content, resolve=False), COMMAND_LINE, LaunchConfig, PREFIX.rstrip("."))
    return content


def _check(launch: LaunchConfig) -> None:
    for name in POSITIVE + AT_LEAST_ZERO:
        value, least = getattr(launch, name), int(name in POSITIVE)
        if value is not None and value < least:
            raise ConfigError(PREFIX + name, value, f"an integer of at least {least}")
    if launch.ranks_on_node < 1:
        raise ConfigError("launch.ranks_per_node", launch.ranks_per_node, "at least 1 where gpus_per_node is 0")
    if launch.gpus_per_node not in (0, launch.ranks_on_node):
        raise ConfigError("launch.ranks_per_node", launch.ranks_per_node, f"{launch.gpus_per_node}, a rank a GPU")
    if not TIME.fullmatch(launch.time):
        raise ConfigError("launch.time", launch.time, "a time as SLURM writes it, such as 24:00:00 or 2-12:00:00")
    for name in launch.environment:
        if not NAME.fullmatch(name):
            raise ConfigError("launch.environment", name, "names of variables: letters, digits and _")
    _check_options("sbatch", launch.sbatch)
    _check_options("srun", launch.srun)


def _check_options(key: str, options: list[str]) -> None:
    for option in options:
        name = option.partition("=")[0]
        if not option.startswith("-") or "\n" in option:
            raise ConfigError(f"{PREFIX}{key}", option, "options that begin with -, each with its value behind =")
        if name in SAID_BY_KEYS:
            raise ConfigError(f"{PREFIX}{key}", option, f"launch.{SAID_BY_KEYS[name]} instead")
