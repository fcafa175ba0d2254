"""This process as a task of a SLURM step: what ``srun`` starts."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ConfigError
from .addresses import Resolve, address_of, resolve
from .hostlist import expand_hostlist
from .integers import integer, require_all
from .launch import Claim, Launch

NEEDED = (
    "SLURM_STEP_ID",
    "SLURM_JOB_ID",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_STEP_NODELIST",
    "SLURMD_NODENAME",
)
# Numbers from here on are SLURM's names for what is no step of tasks: batch shell, salloc's shell, extern.
FIRST_SPECIAL_STEP = 0xFFFF_FFF0
# Below the ports that the system gives out by itself (32768 and more on Linux).
FIRST_PORT, PORTS = 20_000, 12_000
PORTS_OF_A_JOB = 31


@dataclass(frozen=True)
class Step:
    """A task of a step and the step itself.

    Attributes:
        job, number: of the step.
        rank, local_rank: of the task.
        tasks: how many the step has.
        nodes: that it runs on, in the order of its tasks.
        node: that this task runs on.
    """

    job: int
    number: int
    rank: int
    local_rank: int
    tasks: int
    nodes: tuple[str, ...]
    node: str

    @property
    def port(self) -> int:
        """Where its ranks meet."""
        return port_of(self.job, self.number)

    def claim(self) -> Claim:
        """To be held against other sources."""
        text = (
            f"SLURM step {self.job}.{self.number}: SLURM_PROCID={self.rank} SLURM_STEP_NUM_TASKS={self.tasks} "
            f"on {len(self.nodes)} node{'s' if len(self.nodes) > 1 else ''}"
        )
        return Claim(text, self.rank, self.tasks, only_agents=self.tasks == len(self.nodes))

    def launch(self, ask: Resolve = resolve) -> Launch:
        """As a rank; see :func:`~flamingo_ds.launching.addresses.address_of` for what it may raise."""
        address = "127.0.0.1" if len(self.nodes) == 1 else self.master(ask)
        source = f"SLURM step {self.job}.{self.number}"
        return Launch(self.rank, self.local_rank, self.tasks, address, self.port, len(self.nodes), source)

    def master(self, ask: Resolve = resolve) -> str:
        """Address of the first node."""
        return address_of(self.nodes[0], self.node, [node for node in self.nodes if node != self.node], ask)


def read_step(environ: Mapping[str, str]) -> Step | None:
    """The step that this process is a task of.

    A batch script's shell says SLURM_PROCID=0 of all the job's tasks, but it is no step; neither is salloc's shell.

    Returns:
        None outside of a step.

    Raises:
        ConfigError: a part of it is missing, or parts contradict one another.
    """
    number = environ.get("SLURM_STEP_ID", "")
    if not number.isdecimal() or int(number) >= FIRST_SPECIAL_STEP:
        return None
    require_all(environ, NEEDED)
    job, rank, local_rank, tasks = (integer(environ, NEEDED[index]) for index in range(1, 5))
    nodes = tuple(expand_hostlist(environ["SLURM_STEP_NODELIST"]))
    step = Step(job, int(number), rank, local_rank, tasks, nodes, environ["SLURMD_NODENAME"])
    if not 0 <= local_rank <= rank < tasks:
        given = f"SLURM_PROCID={rank} SLURM_LOCALID={local_rank} SLURM_STEP_NUM_TASKS={tasks}"
        raise ConfigError("environment", given, "0 <= SLURM_LOCALID <= SLURM_PROCID < SLURM_STEP_NUM_TASKS")
    # What a step's shell exported into a job of its own, such as one that it submitted.
    for other, ours in (("SLURM_NTASKS", tasks), ("SLURM_STEP_NUM_NODES", len(nodes))):
        if environ.get(other) and integer(environ, other) != ours:
            raise _stale(f"{other}={environ[other]}", step)
    if step.node not in nodes:
        raise _stale(f"SLURMD_NODENAME={step.node}, which is none of {environ['SLURM_STEP_NODELIST']}", step)
    return step


def read_shell(environ: Mapping[str, str]) -> Step | None:
    """The nodes of a job as its own shell sees them, in place of a step; None outside of a job.

    Raises:
        ConfigError: the list of nodes is none.
    """
    if not (environ.get("SLURM_JOB_ID") and environ.get("SLURM_JOB_NODELIST")):
        return None
    nodes = tuple(expand_hostlist(environ["SLURM_JOB_NODELIST"]))
    node = environ.get("SLURMD_NODENAME", "")
    return Step(integer(environ, "SLURM_JOB_ID"), PORTS_OF_A_JOB - 1, 0, 0, len(nodes), nodes, node)


def port_of(job: int, step: int) -> int:
    """A port for the ranks of a step: two jobs that share a node, and two steps of a job, must not meet at one."""
    return FIRST_PORT + (job * PORTS_OF_A_JOB + step % PORTS_OF_A_JOB) % PORTS


def _stale(given: str, step: Step) -> ConfigError:
    return ConfigError("environment", given, f"the same as {step.claim().text}; are its variables of another step?")
