"""Every key of a launch description, with its type, default and meaning. ``None`` leaves it to the cluster."""

import sys
from dataclasses import dataclass, field
from enum import StrEnum

from omegaconf import MISSING


class Starter(StrEnum):
    """Who starts the ranks of a node."""

    srun = "srun"
    """SLURM itself, a task a rank: nothing between it and them, and every rank has its own log."""
    torchrun = "torchrun"
    """A task a node, torchrun, which starts the node's ranks."""
    deepspeed = "deepspeed"
    """A task a node, the deepspeed launcher, which starts the node's ranks."""


class Preflight(StrEnum):
    """What is looked at on every node before training."""

    full = "full"
    """Versions, GPUs, clock, disk, and a reduction over all ranks."""
    quick = "quick"
    """The same without importing torch: no GPUs, no reduction."""
    none = "none"


@dataclass
class ContainerConfig:
    """Handed to srun as ``--container-*``, for clusters with pyxis; the batch file itself runs outside."""

    image: str | None = None
    """Of the container that ranks run in."""
    mounts: list[str] = field(default_factory=list)
    """``OUTSIDE:INSIDE[:ro]``. Run folder, snapshot of the code, Python and data must be there under the same names."""
    arguments: list[str] = field(default_factory=list)
    """More of pyxis' options, such as ``--no-container-mount-home``."""


@dataclass
class LaunchConfig:
    """How a run is started on a cluster."""

    nodes: int = MISSING
    gpus_per_node: int = MISSING
    """A GPU a rank; 0 for a cluster without any, with ``ranks_per_node``."""
    ranks_per_node: int | None = None
    """None: as many as GPUs."""
    cpus_per_rank: int | None = None
    """Cores of a rank, for its threads and ``data.workers``."""
    memory: str | None = None
    """Of a node, as SLURM writes it (``200G``); ``0`` is all of it."""
    exclusive: bool = False
    """Share no node with other jobs."""
    time: str = "24:00:00"
    """Limit of one start, as SLURM writes it; a run goes on in the next one."""
    warning_s: int = 300
    """So many seconds before the limit, or before a preemption, ranks are told to save. More than a step and a save
    take: SLURM may be a minute early, and looks at its clock every half minute."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    """Features of nodes, such as ``a100&ib``."""
    reservation: str | None = None
    nodelist: str | None = None
    """Nodes that must be among them."""
    exclude: str | None = None
    """Nodes that must not."""
    job_name: str | None = None
    """None: the run folder's name."""
    starter: Starter = Starter.srun
    modules: list[str] = field(default_factory=list)
    """Loaded with ``module load``, in this order."""
    environment: dict[str, str] = field(default_factory=dict)
    """Exported to every rank."""
    python: str = sys.executable
    """Interpreter that all nodes see, or within the container."""
    container: ContainerConfig = field(default_factory=ContainerConfig)
    preflight: Preflight = Preflight.full
    """Look at all nodes before training, and leave bad ones out."""
    preflight_s: int = 300
    """A preflight that takes longer has failed."""
    max_exclusions: int = 2
    """So often bad nodes are excluded and others asked for."""
    max_restarts: int = 3
    """So often a run that failed is started again, and never twice at the same step."""
    requeue: bool = True
    """Let the job queue again when it was stopped, preempted or failed; else it ends."""
    chain: int = 1
    """So many jobs, each going on where the one before ended, for clusters that do not let jobs queue again. More than
    one turns ``requeue`` off."""
    wait_s: int = 60
    """When a rank has ended, srun ends the others after so many seconds."""
    sbatch: list[str] = field(default_factory=list)
    """More options of sbatch, as they are."""
    srun: list[str] = field(default_factory=list)
    """More options of the srun that starts the ranks, such as ``--mpi=pmix``."""

    @property
    def ranks_on_node(self) -> int:
        """Ranks of a node."""
        return self.gpus_per_node if self.ranks_per_node is None else self.ranks_per_node

    @property
    def world_size(self) -> int:
        """Ranks of the job."""
        return self.nodes * self.ranks_on_node

    @property
    def requeues(self) -> bool:
        """Whether the job queues again by itself."""
        return self.requeue and self.chain == 1
