"""A recipe by name or file, with overrides from the command line, as typed objects."""

import io
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from ..errors import ConfigError
from .schema import RunConfig
from .typecheck import COMMAND_LINE, check_types
from .validate import validate


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    folder = files("flamingo_ds") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name_or_file: str, overrides: Sequence[str] = ()) -> RunConfig:
    """A whole, checked recipe.

    Args:
        name_or_file: one of :func:`recipe_names`, or the path of a YAML file.
        overrides: ``key=value`` with dotted keys, later ones win.

    Raises:
        ConfigError: unknown key, wrong type or value, missing key, no such recipe.
    """
    recipe, given = _read(name_or_file), _overrides(overrides)
    _take_out_datasets(recipe, given)
    merged = OmegaConf.merge(OmegaConf.structured(RunConfig), recipe, given)
    assert isinstance(merged, DictConfig)
    _resolve(merged)
    missing = sorted(OmegaConf.missing_keys(merged))
    if missing:
        raise ConfigError(missing[0], None, f"a value; recipe {name_or_file} gives none")
    if merged.parallel.activation_checkpointing == "False":
        merged.parallel.activation_checkpointing = "off"  # YAML 1.1 reads a bare off as false
    validate(merged)
    config = OmegaConf.to_object(merged)
    assert isinstance(config, RunConfig)
    return config


def to_yaml(config: RunConfig) -> str:
    """The resolved recipe as a YAML text that :func:`load_recipe` reads back."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def _read(name_or_file: str) -> DictConfig:
    """The recipe's own keys, checked against the schema one file at a time so that the message names the file."""
    path = Path(name_or_file)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise ConfigError("--recipe", name_or_file, "the path of a YAML file; there is no such file")
        content = path.read_bytes()
    elif name_or_file in recipe_names():
        content = (files("flamingo_ds") / "recipes" / f"{name_or_file}.yaml").read_bytes()
    else:
        raise ConfigError("--recipe", name_or_file, f"a YAML file or one of: {', '.join(recipe_names())}")
    try:
        recipe = OmegaConf.load(io.StringIO(content.decode("utf-8")))
    except UnicodeDecodeError as error:
        raise ConfigError("--recipe", name_or_file, f"a text in UTF-8; {error}") from error
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError("--recipe", name_or_file, f"valid YAML; {_one_line(error)}") from error
    except OSError:  # OmegaConf's answer to a file that holds one number
        recipe = None
    if not isinstance(recipe, DictConfig):
        raise ConfigError("--recipe", name_or_file, "a YAML mapping of keys to values")
    return _checked(recipe, f"recipe {name_or_file}")


def _overrides(overrides: Sequence[str]) -> DictConfig:
    merged: Any = OmegaConf.create({})
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ConfigError("override", override, "key=value with a dotted key, such as train.max_steps=100")
        try:
            content = OmegaConf.from_dotlist([override])
        except (YAMLError, OmegaConfBaseException) as error:
            raise ConfigError(key, value, f"a YAML value; {_one_line(error)} (command line)") from error
        merged = OmegaConf.merge(merged, _checked(content, COMMAND_LINE))
    return merged


def _take_out_datasets(recipe: DictConfig, overrides: DictConfig) -> None:
    """``data.datasets.NAME=null`` on the command line: a run without this dataset of the recipe; as in ``probe``."""
    for key in ("data.datasets", "probe.datasets"):
        given, known = (OmegaConf.select(content, key) or {} for content in (overrides, recipe))
        for name in [name for name in given if given[name] is None]:
            if name not in known:
                raise ConfigError(f"{key}.{name}", None, f"a dataset of the recipe: {', '.join(map(str, known))}")
            del given[name], known[name]


def _checked(content: DictConfig, origin: str) -> DictConfig:
    check_types(OmegaConf.to_container(content, resolve=False), origin)
    return content


def _resolve(recipe: DictConfig) -> None:
    """Fill in interpolations such as ``${run_dir}/shards``."""
    try:
        OmegaConf.resolve(recipe)
    except OmegaConfBaseException as error:
        key = error.full_key or str(error.key)
        given = OmegaConf.to_container(recipe, resolve=False)
        raise ConfigError(
            key, _at(given, key), f"an interpolation that can be filled in; {_one_line(error)}"
        ) from error


def _at(content: Any, key: str) -> Any:
    for name in key.split("."):
        content = content.get(name) if isinstance(content, dict) else None
    return content


def _one_line(error: Exception) -> str:
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} (line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1})"
    return " ".join(str(error).split("\n    full_key")[0].split())
