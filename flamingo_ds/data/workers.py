"""Processes that decode beside training; what they give comes in the order in which it was asked for."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Protocol

import torch

from .bad_samples import BadSample
from .decoder import Decoder
from .sequence import TokenSequence
from .shards import RawSample

Outcome = TokenSequence | BadSample
# Samples that go to a worker at once: enough to make its messages cheap, few enough to keep all of them busy.
CHUNK = 4
LOOK_FOR_PARENT_S = 2.0


class Pending(Protocol):
    """A chunk that is being decoded."""

    def result(self) -> list[Outcome]:
        """Wait for it."""


class _InProcess:
    """Decoded by who asks for it, when it is asked for."""

    def __init__(self, decoder: Decoder, samples: Sequence[RawSample]) -> None:
        self.decoder, self.samples = decoder, samples

    def result(self) -> list[Outcome]:
        return [self.decoder(sample) for sample in self.samples]


class DecodePool:
    """All datasets' decoders, and the processes that run them.

    Args:
        workers: how many processes; 0: none, and nothing is decoded ahead of time.
    """

    def __init__(self, workers: int = 0) -> None:
        self.workers = workers
        self.decoders: dict[str, Decoder] = {}
        self._pool: ProcessPoolExecutor | None = None

    def register(self, name: str, decoder: Decoder) -> None:
        """Add a dataset; before the first chunk, for workers inherit the decoders when they start."""
        assert self._pool is None
        self.decoders[name] = decoder

    def submit(self, name: str, samples: Sequence[RawSample]) -> Pending:
        """Have samples of a dataset decoded."""
        if not self.workers:
            return _InProcess(self.decoders[name], samples)
        if self._pool is None:
            # Forked, so that they share the tokenizer's and the libraries' memory with the training process.
            context = multiprocessing.get_context("fork")
            self._pool = ProcessPoolExecutor(self.workers, context, _start_worker, (self.decoders, os.getpid()))
        future: Future[list[Outcome]] = self._pool.submit(_decode, name, samples)
        return future

    def processes(self) -> list[int]:
        """Numbers of the processes that there are now."""
        return [] if self._pool is None else list(self._pool._processes)

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


_DECODERS: dict[str, Decoder] = {}


def _start_worker(decoders: dict[str, Decoder], parent: int) -> None:
    _DECODERS.update(decoders)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    # Signals reach the whole group of processes; the training process finishes its step on them and needs its workers.
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(stop, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(parent, os.getppid, os._exit), daemon=True).start()


def _end_with_parent(parent: int, current: Callable[[], int], leave: Callable[[int], object]) -> None:
    """A killed training process cannot tell its workers; who lost its parent has another one."""
    while current() == parent:
        time.sleep(LOOK_FOR_PARENT_S)
    leave(1)


def _decode(name: str, samples: Sequence[RawSample]) -> list[Outcome]:
    return [_DECODERS[name](sample) for sample in samples]
