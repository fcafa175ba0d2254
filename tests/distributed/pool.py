"""Processes that form a gloo group: imports are paid once, not once a test."""

import os
import pickle
import socket
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from flamingo_ds.parallel import Launch, init_distributed

from .. import killing

# Every engine makes process groups, and each of gloo's has a thread that wakes a hundred times a second as long as the
# process lives: a hundred of them in each of seven ranks left two cores no time for anything else.
MOST_THREADS = 40


class WorkerPool:
    """``world_size`` ranks on this machine that run any importable function together.

    A function that fails or hangs on one rank ends the whole pool, as a collective would be left half done; the next
    call starts a new one. So does one that leaves many threads behind.
    """

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self.processes: list[BaseProcess] = []
        self.pipes: list[Connection] = []

    def run(self, function: Callable[..., Any], *arguments: Any, timeout: float = 500.0) -> list[Any]:
        """Call ``function(*arguments)`` on every rank; results in the order of ranks.

        Raises:
            AssertionError: a rank raised (its traceback is in the message) or took longer than ``timeout`` seconds.
        """
        if not self.processes:
            self._start()
        for pipe in self.pipes:
            _send(pipe, (function, arguments))
        answers: list[tuple[bool, Any, bool]] = []
        for pipe in self.pipes:
            # One rank's error usually makes the others fail too, soon: hear them all, the cause is among them.
            patience = timeout if all(good for good, _, _ in answers) else 5.0
            try:
                answers.append(_receive(pipe) if pipe.poll(patience) else (False, f"no answer in {patience} s", True))
            except EOFError:
                answers.append((False, "the process ended", True))
        if any(spent for _, _, spent in answers):
            self.stop()
        if problems := [f"rank {rank}: {text}" for rank, (good, text, _) in enumerate(answers) if not good]:
            raise AssertionError("\n".join(problems))
        return [value for _, value, _ in answers]

    def stop(self) -> None:
        """End the processes that this pool started."""
        for process in self.processes:
            process.kill()
            process.join()
        self.processes, self.pipes = [], []

    def _start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for rank in range(self.world_size):
            ours, theirs = Pipe()
            launch = Launch(rank, rank, self.world_size, "127.0.0.1", port)
            self.processes.append(killing.start(_serve, launch, theirs))
            theirs.close()
            self.pipes.append(ours)


def _send(pipe: Connection, value: Any) -> None:
    """Plain bytes: ``Connection.send`` shares each tensor through a file descriptor that stays open as long as it."""
    pipe.send_bytes(pickle.dumps(value))


def _receive(pipe: Connection) -> Any:
    return pickle.loads(pipe.recv_bytes())  # noqa: S301 -- from a process that this one started


def _serve(launch: Launch, pipe: Connection) -> None:
    """A rank: join the group, then answer calls until the pipe closes."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.chdir(tempfile.gettempdir())
    import torch

    torch.set_num_threads(1)
    init_distributed(launch, timeout_s=300)
    while True:
        try:
            function, arguments = _receive(pipe)
        except EOFError:
            return
        try:
            value = function(*arguments)
        except BaseException:
            _send(pipe, (False, traceback.format_exc(), True))
            return
        _send(pipe, (True, value, len(os.listdir("/proc/self/task")) > MOST_THREADS))
