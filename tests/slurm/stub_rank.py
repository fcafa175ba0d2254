"""A rank without torch: steps, checkpoints, signals and ends as in training, in milliseconds. Standard library only.

The environment says what it does: ``STUB_STEPS``, ``STUB_SECONDS`` a step, ``STUB_SAVE_EVERY``; ``STUB_LINGER``, the
step that a job's first start does not leave by itself; and ``STUB_FAULT=RANK:STEP:KIND[:STARTS]``, where KIND is raise
or kill, in that many first starts of the job (else in all).
"""

import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

from flamingo_ds.errors import EXIT_DONE, EXIT_FAILED, EXIT_HALTED, EXIT_STOPPED
from flamingo_ds.launching.exit_record import ExitRecord
from flamingo_ds.launching.launch import Launch
from flamingo_ds.launching.rank_source import read_launch
from flamingo_ds.launching.run_files import RunFiles

PATIENCE = 120.0


class Group:
    """All ranks; rank 0 sums up what the others send."""

    def __init__(self, launch: Launch) -> None:
        self.launch, self.others = launch, []
        if launch.world_size == 1:
            return
        place = (launch.master_address, launch.master_port)
        if launch.is_main:
            with socket.create_server(("", launch.master_port)) as server:
                server.settimeout(PATIENCE)
                self.others = [server.accept()[0] for _ in range(launch.world_size - 1)]
        else:
            deadline = time.monotonic() + PATIENCE
            while not self.others:
                try:
                    self.others = [socket.create_connection(place, PATIENCE)]
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)

    def any(self, mine: bool) -> bool:
        """Whether any rank says yes; fails where one is gone."""
        if self.launch.is_main:
            said = [self._receive(other) for other in self.others]
            answer = mine or any(said)
            for other in self.others:
                other.sendall(bytes([answer]))
            return answer
        if self.others:
            self.others[0].sendall(bytes([mine]))
            return self._receive(self.others[0])
        return mine

    def _receive(self, other: socket.socket) -> bool:
        if not select.select([other], [], [], PATIENCE)[0] or not (answer := other.recv(1)):
            raise ConnectionError("another rank is gone")
        return bool(answer[0])


class Run:
    """The folder: metrics and checkpoints."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "checkpoints").mkdir(exist_ok=True)
        self.latest = path / "checkpoints" / "latest"
        self.step = int(self.latest.readlink().name.removeprefix("step-")) if self.latest.is_symlink() else 0

    def cut_metrics(self) -> None:
        """As training does it on resuming."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        path.write_text("".join(lines[: self.step]))

    def report(self, step: int) -> None:
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "data_step": step}) + "\n")

    def save(self, step: int) -> None:
        name = f"step-{step:08d}"
        (self.path / "checkpoints" / name).mkdir(exist_ok=True)
        aside = self.latest.with_name("latest.new")
        aside.symlink_to(name)
        aside.replace(self.latest)


def lingers(step: int) -> bool:
    """Whether this step waits for something to happen."""
    return os.environ.get("STUB_LINGER") == str(step) and os.environ.get("SLURM_RESTART_COUNT", "0") == "0"


def misbehave(rank: int, step: int) -> None:
    """Do what the environment says should go wrong."""
    where, at, kind, starts = (os.environ.get("STUB_FAULT", "-1:0:none") + ":999").split(":")[:4]
    if (rank, step) == (int(where), int(at)) and int(os.environ.get("SLURM_RESTART_COUNT", "0")) < int(starts):
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("the stub fails as it was told to")


def train(run: Run, launch: Launch, stopped: list[int], record: ExitRecord) -> int:
    """All steps that are left."""
    steps, save_every = int(os.environ["STUB_STEPS"]), int(os.environ.get("STUB_SAVE_EVERY", "1000"))
    group, files = Group(launch), RunFiles(run.path)
    for step in range(run.step + 1, steps + 1):
        time.sleep(float(os.environ.get("STUB_SECONDS", "0.05")))
        record.step = step
        misbehave(launch.rank, step)
        while True:
            halting = group.any(launch.is_main and files.stop.exists())
            stopping = group.any(bool(stopped)) or halting
            if stopping or not lingers(step):
                break
            time.sleep(0.05)
        if launch.is_main:
            run.report(step)
            if stopping or step % save_every == 0 or step == steps:
                run.save(step)
        if stopping and step < steps:
            return EXIT_HALTED if halting else EXIT_STOPPED
    if launch.is_main:
        files.write_finished(steps)
    return EXIT_DONE


def main() -> int:
    """Train, so to speak."""
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, _: stopped.append(number))
    launch, record = read_launch(os.environ), ExitRecord()
    run = Run(Path(sys.argv[sys.argv.index("--recipe") + 1]).parents[2])
    record.begin(run.path, launch, os.environ)
    print(f"rank {launch.rank} of {launch.world_size} starts behind step {run.step}", flush=True)
    if launch.is_main:
        run.cut_metrics()
    code, error = EXIT_FAILED, None
    try:
        code = train(run, launch, stopped, record)
    except Exception as raised:
        error, record.follows = traceback.format_exc(), isinstance(raised, ConnectionError)
        print(error, flush=True)
    record.end(code, error=error)
    return code


if __name__ == "__main__":
    sys.exit(main())
