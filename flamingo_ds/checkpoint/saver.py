"""Saving checkpoints: all ranks write at once, beside training; complete or absent, whoever is killed when.

    training stands still   snapshot (collective), every rank copies its part
    a thread on each rank   writes and flushes its files, leaves its marker
    rank 0's thread         waits for all markers, writes the index; then, in this order:
                            step-N.partial -> step-N; latest -> step-N; outdated folders -> .removing, deleted

All ranks must see the run folder on one shared file system.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from ..config import to_yaml
from ..parallel import TrainEngine
from .files import PARTIAL_SUFFIX, beside, readable_mode
from .markers import CheckpointError, leave_marker
from .names import FORMAT, step_name
from .publish import CommonFiles, SaveInput, model_files, publish
from .retention import Retention, clear_away, tidy_names
from .snapshot import Share, Snapshot, take_snapshot, write_snapshot

LOGGER = logging.getLogger("flamingo_ds")
# After an error in training: time for the other ranks' part of a save under way, if they live.
GRACE_SECONDS = 60.0
T = TypeVar("T")


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is whole: its path and the seconds from the start of its save to its end."""

    path: Path
    seconds: float


class CheckpointSaver:
    """Made once a run, on every rank.

    Args:
        folder: ``checkpoints`` of the run.
        retention: which ones stay.
        in_background: write beside training; else :meth:`save` returns when the checkpoint is whole.
        data_rank: whose data position this rank holds; None: nobody's.
    """

    def __init__(self, folder: Path, retention: Retention, in_background: bool, data_rank: int | None) -> None:
        self.folder, self.retention, self.in_background, self.data_rank = folder, retention, in_background, data_rank
        self.rank, self.ranks, self.mode = dist.get_rank(), dist.get_world_size(), readable_mode()
        self._model_files: dict[str, bytes] = {}
        self._thread: threading.Thread | None = None
        self._give_up = threading.Event()
        self._error: Exception | None = None
        self._saved: Saved | None = None

    def save(
        self,
        content: SaveInput,
        engine: TrainEngine,
        reference: Mapping[str, torch.Tensor],
        data_state: Mapping[str, Any] | None,
    ) -> None:
        """Begin to write ``folder/step-N``, after the save before has ended. Collective.

        Args:
            content: what is the same everywhere.
            engine: gives the state.
            reference: inputs and ``logits``, written by rank 0.
            data_state: this rank's data position, as JSON; None: it has none.

        Raises:
            CheckpointError: this save, or the one before, failed on some rank; on all of them.
        """
        self.finish()
        began = time.monotonic()
        target = self.folder / step_name(content.step)
        partial = beside(target, PARTIAL_SUFFIX)
        files: dict[str, bytes] = {}
        if self.rank == 0:
            files = self._attempt(lambda: self._begin(partial, content)) or {}
        snapshot = take_snapshot(engine, data_state)
        data_rank = self.data_rank if snapshot.data is not None else None
        has_tensors, data_ranks = zip(*self._agree((bool(snapshot.names), data_rank)), strict=True)
        share = Share(content.step, self.rank, data_rank, sum(has_tensors[: self.rank]), sum(has_tensors), self.mode)
        about: dict[str, Any] = {
            "format": FORMAT,
            "step": content.step,
            "ranks": self.ranks,
            "data_ranks": sum(rank is not None for rank in data_ranks),
            "layout": content.layout,
            "base": dict(content.base),
        }
        assert sorted(rank for rank in data_ranks if rank is not None) == list(range(about["data_ranks"]))
        tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in reference.items()}
        common = CommonFiles(files, tensors if self.rank == 0 else {}, about)

        def write() -> None:
            self._write(target, snapshot, share, common)
            if self.rank == 0:
                self._saved = Saved(target, time.monotonic() - began)
                # The new one is whole and chosen: whatever fails from here on costs space and nothing else.
                clear_away(self.folder, self.retention, content.step)

        self._thread = threading.Thread(target=lambda: self._attempt(write), name=target.name)
        self._thread.start()
        if not self.in_background:
            self.finish()

    def finish(self) -> None:
        """Wait until the save under way, if any, has ended on all ranks. Collective.

        Raises:
            CheckpointError: it failed on some rank; on all of them.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._agree(None)

    def abandon(self) -> None:
        """Training failed here: let the save under way come to its end if the others do their part soon.

        Not collective, as nobody knows what the other ranks do; an error is logged only.
        """
        if self._thread is None:
            return
        self._thread.join(GRACE_SECONDS)
        self._give_up.set()
        self._thread.join()
        self._thread = None
        if self._error is not None:
            LOGGER.error("the save under way failed too: %s", self._error)

    def saved(self) -> Saved | None:
        """On rank 0 the checkpoint that became whole since the last question; elsewhere None."""
        saved, self._saved = self._saved, None
        return saved

    def _begin(self, partial: Path, content: SaveInput) -> dict[str, bytes]:
        """Rank 0's preparations: an empty folder, and the files that are made by other people's code.

        Those are made once and kept as bytes: a tokenizer cannot be written by a thread while training uses it.
        """
        tidy_names(self.folder)
        partial.mkdir()
        self._model_files = self._model_files or model_files(content)
        return {**self._model_files, "recipe.yaml": to_yaml(content.recipe).encode()}

    def _write(self, target: Path, snapshot: Snapshot, share: Share, common: CommonFiles) -> None:
        """In the thread: this rank's part, and on rank 0 the rest."""
        partial = beside(target, PARTIAL_SUFFIX)
        try:
            written = write_snapshot(partial, snapshot, share)
        except Exception as error:
            leave_marker(partial, self.rank, {"error": f"{type(error).__name__}: {error}"})
            raise
        leave_marker(partial, self.rank, written)
        if self.rank == 0:
            publish(target, common, share.shards, self._give_up, self.mode)

    def _attempt(self, work: Callable[[], T]) -> T | None:
        """Do something that may fail here alone; the error is kept until all ranks can hear of it."""
        try:
            return work()
        except Exception as error:
            LOGGER.exception("saving failed")
            self._error = error
            return None

    def _agree(self, value: T) -> list[T]:
        """Every rank's value, in the order of ranks. Collective.

        Raises:
            CheckpointError: a rank has an error; on all of them, so that none waits for another that has given up.
        """
        answers: list[Any] = [None] * self.ranks
        own = None if self._error is None else f"{type(self._error).__name__}: {self._error}"
        dist.all_gather_object(answers, (value, own))
        if problems := [f"rank {rank}: {text}" for rank, (_, text) in enumerate(answers) if text is not None]:
            error, self._error = self._error, None
            raise CheckpointError("; ".join(["a checkpoint could not be saved", *problems])) from error
        return [value for value, _ in answers]
