"""Numbers out of an environment."""

from collections.abc import Mapping

from ..errors import ConfigError


def integer(environ: Mapping[str, str], name: str) -> int:
    """The variable's value.

    Raises:
        ConfigError: it is no integer.
    """
    try:
        return int(environ[name])
    except ValueError as error:
        raise ConfigError(name, environ[name], "an integer (environment)") from error


def require_all(environ: Mapping[str, str], names: tuple[str, ...]) -> None:
    """Refuse a part of what must come together.

    Raises:
        ConfigError: some are missing or empty.
    """
    present = [name for name in names if environ.get(name)]
    absent = [name for name in names if name not in present]
    if absent:
        raise ConfigError(
            "environment", ", ".join(present), f"all of {', '.join(names)} or none; missing: {', '.join(absent)}"
        )
