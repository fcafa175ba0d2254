"""RICES for a task: features of its pictures, and for each query the support samples in the order of similarity."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy

from ..parallel import Launch
from .draws import Neighbours
from .frames import load_frames
from .rices import Encoder, build_index, neighbours
from .task import Task

# Queries whose neighbours are found together: all of a support set's similarities are in memory for so many.
AT_ONCE = 512


@dataclass(frozen=True)
class Similar:
    """What the pictures tell.

    Attributes:
        task: with its unreadable support samples counted.
        neighbours: for the number of a query the places of all readable support samples, the most similar first.
    """

    task: Task
    neighbours: Neighbours

    @classmethod
    def of(cls, task: Task, encoder: Encoder, folder: Path, launch: Launch) -> "Similar":
        """Computed by all ranks, or read from an earlier run.

        Args:
            task: whose every sample has a picture.
            encoder: of the model.
            folder: for indices.
            launch: this rank's place.

        Raises:
            ConfigError: no support set, a sample without picture, or none that is readable.
        """
        support = build_index(encoder, task.support, folder, launch, load_frames)
        queries = build_index(encoder, task.queries, folder, launch, load_frames).features()
        blocks = list(support)
        if unreadable := len(support.unreadable()):
            task = replace(task, skipped={**task.skipped, "support_unreadable": unreadable})
        found: dict[int, numpy.ndarray] = {}

        def row(number: int) -> numpy.ndarray:
            first = number // AT_ONCE * AT_ONCE
            if first not in found:
                found.clear()
                found[first] = neighbours(queries[first : first + AT_ONCE], blocks, support.count)
            return found[first][number - first]

        return cls(task, row)
