"""What trains is a table: pattern -> trainable, the last row that matches a parameter's name decides."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn


@dataclass(frozen=True)
class FreezeRow:
    """One row: every parameter whose name matches the shell-style ``pattern`` is ``trainable`` or not."""

    pattern: str
    trainable: bool


@dataclass(frozen=True)
class FreezeReport:
    """How many parameters of one row ended up where."""

    pattern: str
    trainable: int
    frozen: int


def apply_freeze_table(model: nn.Module, rows: Sequence[FreezeRow]) -> list[FreezeReport]:
    """Set ``requires_grad`` of every parameter by the table.

    Args:
        model: any module; may be on the meta device.
        rows: the table; later rows win.

    Returns:
        One line a row with the number of elements it decided.

    Raises:
        ValueError: a parameter that no row matches, a row that matches none, or nothing that trains.
    """
    matched, trainable, frozen = [0] * len(rows), [0] * len(rows), [0] * len(rows)
    for name, parameter in model.named_parameters():
        hits = [index for index, row in enumerate(rows) if fnmatchcase(name, row.pattern)]
        if not hits:
            raise ValueError(f"parameter {name} matches no row of the freeze table; add a row, '*' for all the rest")
        for index in hits:
            matched[index] += 1
        row = rows[hits[-1]]
        parameter.requires_grad_(row.trainable)
        (trainable if row.trainable else frozen)[hits[-1]] += parameter.numel()
    for row, count in zip(rows, matched, strict=True):
        if not count:
            raise ValueError(f"freeze table row {row.pattern!r} matches no parameter")
    if not sum(trainable):
        raise ValueError("the freeze table leaves nothing to train")
    model.train(model.training)
    return [FreezeReport(row.pattern, t, f) for row, t, f in zip(rows, trainable, frozen, strict=True)]
