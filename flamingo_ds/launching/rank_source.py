"""Where a rank comes from, decided in one place.

In this order, and from one source everything or nothing: torchrun's and deepspeed's variables; a SLURM step; MPI; a
single process. Sources that contradict one another are refused. Agents are no contradiction: ``srun`` may start one
torchrun, deepspeed or MPI daemon a node, and these start ranks, which inherit the agent's step.
"""

from collections.abc import Mapping
from itertools import pairwise

from ..errors import ConfigError
from .addresses import Resolve, is_loopback, resolve
from .integers import integer, require_all
from .launch import Claim, Launch
from .mpi import ask_mpi, free_port, read_mpi
from .slurm_step import read_step

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Only torchrun and deepspeed set these: the number of their agent.
AGENT_VARIABLES = ("GROUP_RANK", "CROSS_RANK")
LOCAL_SIZE_VARIABLES = ("LOCAL_WORLD_SIZE", "LOCAL_SIZE")


def read_launch(environ: Mapping[str, str], ask: Resolve = resolve) -> Launch:
    """This process's place.

    Args:
        environ: of the process.
        ask: from a node's name to its address.

    Raises:
        ConfigError: a source that says half of it, values that cannot be, two sources that contradict one another, or a
            master that this node cannot reach.
    """
    launcher, step, mpi = _read_launcher(environ, ask), read_step(environ), read_mpi(environ)
    mine = _claim_of_launcher(launcher, environ) if launcher is not None else None
    outer = step.claim() if step is not None else None
    if mpi is not None and outer is not None and (mpi.rank, mpi.world_size) == (outer.rank, outer.world_size):
        mpi = None  # ``srun --mpi``: the step says the same, and without MPI
    # From the outside in: who was started by whom.
    for outside, inside in pairwise(claim for claim in (outer, mpi, mine) if claim is not None):
        _require_agreement(outside, inside)
    if launcher is not None:
        return launcher
    innermost = mpi or outer
    if innermost is None or innermost.world_size == 1:
        return Launch(0, 0, 1, "127.0.0.1", free_port(), source="a single process")
    return ask_mpi() if mpi is not None or step is None else step.launch(ask)


def likely_rank(environ: Mapping[str, str]) -> int:
    """Of a process that has something to say before its place is known for certain; 0 where nothing tells it."""
    in_step = "SLURM_PROCID" if environ.get("SLURM_STEP_ID") else "RANK"
    for name in ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", in_step):
        if environ.get(name, "").isdecimal():
            return int(environ[name])
    return 0


def _read_launcher(environ: Mapping[str, str], ask: Resolve) -> Launch | None:
    """From torchrun's or deepspeed's variables. A master alone, as a shell or a container may export it, is nobody."""
    if not any(environ.get(name) for name in VARIABLES[:3]):
        return None
    require_all(environ, VARIABLES)
    rank, local_rank, world_size, port = (integer(environ, name) for name in (*VARIABLES[:3], "MASTER_PORT"))
    if not 0 <= rank < world_size or not 0 <= local_rank <= rank:
        raise ConfigError(
            "environment",
            f"RANK={rank} LOCAL_RANK={local_rank} WORLD_SIZE={world_size}",
            "0 <= LOCAL_RANK <= RANK < WORLD_SIZE",
        )
    address, nodes = environ["MASTER_ADDR"], 1
    for name in LOCAL_SIZE_VARIABLES:
        if environ.get(name):
            nodes = -(-world_size // max(integer(environ, name), 1))
    if nodes > 1:
        _require_reachable(address, rank == local_rank, ask)
    return Launch(rank, local_rank, world_size, address, port, nodes, "the launcher's environment")


def _require_reachable(address: str, on_first_node: bool, ask: Resolve) -> None:
    """Several nodes do not meet at 127.*; the master's own node may know itself by that."""
    try:
        resolved = ask(address)
    except OSError as error:
        raise ConfigError("MASTER_ADDR", address, f"a name that resolves ({error.strerror})") from None
    if is_loopback(address) or (is_loopback(resolved) and not on_first_node):
        raise ConfigError(
            "MASTER_ADDR", address, f"an address that all nodes reach; it resolves to {resolved}, this node itself"
        )


def _claim_of_launcher(launch: Launch, environ: Mapping[str, str]) -> Claim:
    text = f"RANK={launch.rank} WORLD_SIZE={launch.world_size}"
    by_agent = any(environ.get(name) for name in AGENT_VARIABLES)
    return Claim(text, launch.rank, launch.world_size, by_agent=by_agent)


def _require_agreement(outside: Claim, inside: Claim) -> None:
    same = (outside.rank, outside.world_size) == (inside.rank, inside.world_size)
    if not same and not (outside.only_agents and inside.by_agent):
        raise ConfigError(
            "environment",
            f"{inside.text}, but {outside.text}",
            "the same rank from both; unset the variables of the one that did not start this process",
        )
