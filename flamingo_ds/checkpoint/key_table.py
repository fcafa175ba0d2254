"""Parameter names of one project as those of another: a table that reads in both directions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

WILDCARDS = {"{n}": r"(?P<n>\d+)", "{rest}": r"(?P<rest>.+)"}


@dataclass(frozen=True)
class Row:
    """Our name and theirs; ``{n}`` stands for a number and ``{rest}`` for anything, the same on both sides.

    Where theirs are several, their tensors one below the other are ours.
    """

    ours: str
    theirs: str | tuple[str, ...]


class KeyTable:
    """Renames whole state dicts; the first row that fits a name decides.

    Args:
        rows: the table.
        dropped: patterns of their names that say nothing new, such as second names of shared modules.
    """

    def __init__(self, rows: Sequence[Row], dropped: Sequence[str] = ()) -> None:
        self.rows = [(row.ours, (row.theirs,) if isinstance(row.theirs, str) else row.theirs) for row in rows]
        self.dropped = dropped

    def to_ours(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Their state dict under our names.

        Raises:
            ValueError: a name that no row fits, or a piece of a tensor that is not there.
        """
        renamed: dict[str, torch.Tensor] = {}
        for name in state:
            if (row := self.ours_of(name)) is None:
                continue
            ours, theirs = row
            if missing := [piece for piece in theirs if piece not in state]:
                raise ValueError(f"{name} is there without {missing[0]}")
            if ours not in renamed:
                pieces = [state[piece] for piece in theirs]
                renamed[ours] = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return renamed

    def to_theirs(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Our state dict under their names.

        Raises:
            ValueError: a name that no row fits.
        """
        renamed: dict[str, torch.Tensor] = {}
        for name, tensor in state.items():
            theirs = self.theirs_of(name)
            pieces = [tensor] if len(theirs) == 1 else tensor.chunk(len(theirs))
            renamed |= dict(zip(theirs, (piece.contiguous() for piece in pieces), strict=True))
        return renamed

    def theirs_of(self, name: str) -> list[str]:
        """Their names of one of our tensors, in the order of its parts.

        Raises:
            ValueError: no row fits.
        """
        for ours, theirs in self.rows:
            if (found := _match(ours, name)) is not None:
                return [_fill(piece, found) for piece in theirs]
        raise ValueError(f"{name} has no name there")

    def ours_of(self, name: str) -> tuple[str, list[str]] | None:
        """Our name of one of their tensors, with all of theirs that make it up; None where it is dropped.

        Raises:
            ValueError: no row fits.
        """
        if any(_match(pattern, name) is not None for pattern in self.dropped):
            return None
        for ours, theirs in self.rows:
            for piece in theirs:
                if (found := _match(piece, name)) is not None:
                    return _fill(ours, found), [_fill(other, found) for other in theirs]
        raise ValueError(f"{name} has no name here")


def _match(pattern: str, name: str) -> dict[str, str] | None:
    expression = re.escape(pattern)
    for wildcard, group in WILDCARDS.items():
        expression = expression.replace(re.escape(wildcard), group)
    found = re.fullmatch(expression, name)
    return None if found is None else found.groupdict()


def _fill(pattern: str, found: Mapping[str, str]) -> str:
    for wildcard, value in found.items():
        pattern = pattern.replace(f"{{{wildcard}}}", value)
    return pattern
