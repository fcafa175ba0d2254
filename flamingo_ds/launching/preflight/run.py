"""The preflight itself: rank 0 leads, the others follow, stage by stage."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import EXIT_BAD_NODE, EXIT_DONE, EXIT_FAILED
from ..addresses import gloo_interface
from ..launch import Launch
from ..mpi import free_port
from ..run_files import Job
from ..slurm_step import read_step
from . import report
from .checks import NodeReport, look
from .probe import Probe
from .report import Findings
from .star import Connection, Hub, connect
from .verdict import judge_local, judge_together, judge_torch, name_missing

# What is left of the time limit for telling and writing; and how much later than rank 0 others give up.
MARGIN_SECONDS = 5.0
STAGES = 3


@dataclass(frozen=True)
class Options:
    """What is asked.

    Attributes:
        run_dir: that training will write to.
        gpus_per_node: that each node must have; None: not counted.
        time_limit: seconds for all of it; each of the three stages has a third.
        min_free_gb: that the run folder's disk must have.
        collectives: whether to try torch, too.
    """

    run_dir: Path
    gpus_per_node: int | None = None
    time_limit: float = 300.0
    min_free_gb: float = 1.0
    collectives: bool = True


class Preflight:
    """One rank's part.

    Args:
        options: of the command.
        launch: this process's place.
        environ: of the process.
        start_probe: starts the process with torch.
        say: gets what rank 0 found.
    """

    def __init__(
        self,
        options: Options,
        launch: Launch,
        environ: Mapping[str, str],
        start_probe: Callable[[Mapping[str, str]], Probe] = Probe,
        say: Callable[[str], None] = print,
    ) -> None:
        self.options, self.launch, self.environ, self.say = options, launch, environ, say
        self.job = Job.of(environ)
        self.nodes = _nodes(launch, environ)
        self.path = report.path_of(options.run_dir, self.job)
        self.stage_seconds = max(1.0, (options.time_limit - MARGIN_SECONDS) / STAGES)
        # Not the port where training meets, at which torchrun's agent may listen already.
        self.port = launch.master_port + 1
        self.probe = start_probe(_environment_of_probe(launch, environ)) if options.collectives else None

    def run(self) -> int:
        """Look, judge, write.

        Returns:
            The same exit code on all ranks that can be reached: 0; 87: bad nodes, named in the file; 1: something is
            wrong that no node is to blame for.
        """
        try:
            return self._lead() if self.launch.is_main else self._follow()
        finally:
            if self.probe is not None:
                self.probe.end()

    # ---- rank 0

    def _lead(self) -> int:
        findings = Findings()
        deadline = time.monotonic() + self.stage_seconds
        hub = Hub(self.launch, self.port)
        hub.accept(deadline)
        answers = {0: self._local(0.0)} | hub.gather(max(deadline, time.monotonic() + MARGIN_SECONDS / 2))
        findings.local = {rank: NodeReport(**answer["report"]) for rank, answer in answers.items()}
        findings.skews = {rank: answer["skew"] for rank, answer in answers.items()}
        for rank, local in findings.local.items():
            self.nodes[rank] = local.node
        findings.bad = name_missing(answers, self.nodes, self.stage_seconds)
        findings.bad |= judge_local(findings.local, findings.skews)
        if self.probe is not None and not findings.bad:
            self._lead_with_torch(hub, self.probe, findings)
        return self._conclude(hub, findings)

    def _lead_with_torch(self, hub: Hub, probe: Probe, findings: Findings) -> None:
        def stage(own: Callable[[float], dict[str, Any]], **told: Any) -> dict[int, dict[str, Any]]:
            hub.tell({**told, "seconds": self.stage_seconds})
            deadline = time.monotonic() + self.stage_seconds
            mine = own(deadline)  # comes to an end by itself; the others wait in their sockets
            return {0: mine} | hub.gather(deadline + MARGIN_SECONDS / 2)

        findings.torch = stage(probe.versions, go="torch")
        findings.bad = name_missing(findings.torch, self.nodes, self.stage_seconds)
        findings.bad |= judge_torch(findings.torch, findings.local, self.options.gpus_per_node)
        if findings.bad:
            return
        by_node: dict[str, list[int]] = {}
        for rank, node in enumerate(self.nodes):
            by_node.setdefault(node, []).append(rank)
        meeting = {"port": free_port(), "nodes": list(by_node.values())}
        findings.together = stage(partial(probe.reduce, self._place(meeting)), go="together", **meeting)
        findings.bad = name_missing(findings.together, self.nodes, self.stage_seconds)
        findings.bad |= judge_together(findings.together, findings.local)
        problems = {rank: answer["problem"] for rank, answer in findings.together.items() if "problem" in answer}
        if problems and not findings.bad:
            rank, problem = next(iter(problems.items()))
            findings.failure = f"{len(problems)} ranks cannot reduce; rank {rank} on {self.nodes[rank]}: {problem}"

    def _conclude(self, hub: Hub, findings: Findings) -> int:
        if 1 < len(set(self.nodes)) == len(findings.bad):
            findings.failure = f"every node is bad, such as {self.nodes[0]}: {findings.bad[self.nodes[0]]}"
            findings.bad = {}
        code = EXIT_BAD_NODE if findings.bad else EXIT_FAILED if findings.failure else EXIT_DONE
        try:
            report.write(self.path, self.job, findings.bad, findings.failure)
            written = True
        except OSError:
            written = False
        self.say(report.table(findings, self.nodes))
        hub.tell(
            {"go": "", "code": code, "bad": findings.bad, "failure": findings.failure, "written": written},
        )
        return code

    # ---- the others

    def _follow(self) -> int:
        try:
            connection = connect(self.launch, self.port, time.monotonic() + self.stage_seconds + MARGIN_SECONDS)
            verdict = self._follow_to_the_end(connection)
        except OSError as error:
            return self._without_rank_0(error)
        if not verdict["written"]:
            self._write(verdict["bad"], verdict["failure"])
        return int(verdict["code"])

    def _follow_to_the_end(self, connection: Connection) -> dict[str, Any]:
        sent = time.time()
        connection.send({"rank": self.launch.rank})
        told = connection.receive(self._patience(self.stage_seconds))["time"]
        connection.send(self._local((sent + time.time()) / 2 - told))
        verdict = connection.receive(self._patience(self.stage_seconds))
        while verdict["go"] and self.probe is not None:
            deadline = time.monotonic() + verdict["seconds"]
            together = verdict["go"] == "together"
            connection.send(
                self.probe.reduce(self._place(verdict), deadline) if together else self.probe.versions(deadline)
            )
            verdict = connection.receive(self._patience(verdict["seconds"]))
        return verdict

    def _without_rank_0(self, error: OSError) -> int:
        """Somebody has to say that rank 0's node is bad; if it lives, it says that of this one."""
        time.sleep(MARGIN_SECONDS)
        if not report.is_written(self.path, self.job):
            self._write({self.nodes[0]: f"rank 0 is gone: {error}"}, "")
        return EXIT_BAD_NODE

    def _write(self, bad: dict[str, str], failure: str) -> None:
        try:
            if not report.is_written(self.path, self.job):
                report.write(self.path, self.job, bad, failure)
        except OSError as error:
            self.say(f"cannot write {self.path}: {error.strerror}; bad nodes: {bad}")

    # ---- both

    def _local(self, skew: float) -> dict[str, Any]:
        options, node = self.options, self.job.node
        local = look(options.run_dir, self.launch.rank, node, options.min_free_gb, self.environ)
        return {"report": asdict(local), "skew": skew}

    def _place(self, meeting: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "address": self.launch.master_address,
            "port": meeting["port"],
            "rank": self.launch.rank,
            "ranks": self.launch.world_size,
            "local_rank": self.launch.local_rank,
            "nodes": meeting["nodes"],
            "seconds": self.stage_seconds,
        }

    def _patience(self, seconds: float) -> float:
        """A deadline for what rank 0 says within so many seconds."""
        return time.monotonic() + seconds + MARGIN_SECONDS


def _nodes(launch: Launch, environ: Mapping[str, str]) -> list[str]:
    """The node of each rank, as far as it can be known of ranks that never answer."""
    step = read_step(environ)
    if step is not None and step.tasks == launch.world_size:
        return [step.nodes[rank * len(step.nodes) // step.tasks] for rank in range(step.tasks)]
    return [f"the node of rank {rank}" for rank in range(launch.world_size)]


def _environment_of_probe(launch: Launch, environ: Mapping[str, str]) -> dict[str, str]:
    more = {"OMP_NUM_THREADS": "1"}
    if launch.nodes > 1 and (interface := gloo_interface(launch.master_address)) is not None:
        more["GLOO_SOCKET_IFNAME"] = interface
    return {**more, **environ}
