"""SLURM's short form of a list of nodes, ``n[1-3,07],login``, written out without asking ``scontrol``.

``python -m flamingo_ds.launching.hostlist LIST`` prints a name a line.
"""

import re
import sys
from itertools import product

from ..errors import ConfigError

# Commas outside of brackets part the groups.
_GROUP = re.compile(r"(?:[^,\[\]]|\[[^\[\]]*\])+")
_PIECE = re.compile(r"\[([^\[\]]*)\]|([^\[\]]+)")


def expand_hostlist(text: str) -> list[str]:
    """Names in their order; numbers keep their leading zeros.

    Raises:
        ConfigError: it is no such list.
    """
    hosts: list[str] = []
    end = 0
    for group in _GROUP.finditer(text):
        if text[end : group.start()] != ("," if hosts else ""):
            break
        hosts += map("".join, product(*(_choices(text, *piece) for piece in _PIECE.findall(group[0]))))
        end = group.end()
    if not hosts or end != len(text):
        raise _no_list(text)
    return hosts


def _choices(text: str, numbers: str, plain: str) -> list[str]:
    if plain:
        return [plain]
    choices: list[str] = []
    for part in numbers.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(first) > int(last)):
            raise _no_list(text)
        choices += [f"{number:0{len(first)}d}" for number in range(int(first), int(last or first) + 1)]
    return choices


def _no_list(text: str) -> ConfigError:
    return ConfigError("nodes", text, "a list of nodes as SLURM writes it, such as n[1-3,07],login")


if __name__ == "__main__":
    print("\n".join(expand_hostlist(sys.argv[1])))
