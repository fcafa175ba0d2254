"""This process as a rank of MPI: what ``mpirun`` starts."""

import socket
from collections.abc import Mapping
from functools import cache

from ..errors import ConfigError
from .addresses import address_of
from .integers import integer
from .launch import Claim, Launch

# Open MPI's launcher; MPICH's and Intel's (hydra), and SLURM's own PMI: rank, size, ranks on this node.
VARIABLES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"),
)


def read_mpi(environ: Mapping[str, str]) -> Claim | None:
    """What an MPI launcher says of this process; None if none does."""
    for rank_name, size_name, local_name in VARIABLES:
        if environ.get(rank_name) and environ.get(size_name):
            rank, size = integer(environ, rank_name), integer(environ, size_name)
            alone = environ.get(local_name) == "1"
            return Claim(f"{rank_name}={rank} {size_name}={size}", rank, size, only_agents=alone, by_agent=True)
    return None


@cache
def ask_mpi() -> Launch:
    """Rank, size, and place on its node from MPI itself; rank 0 tells all where it can be met. Collective.

    MPI is left again at once: a rank that failed would else wait for the others in its last moment, and they for it.

    Raises:
        ConfigError: there is no mpi4py, or it finds no MPI library.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError("mpi4py", reason, "mpi4py and the MPI library of the mpirun that started this") from error
    world = MPI.COMM_WORLD
    on_node = world.Split_type(MPI.COMM_TYPE_SHARED)
    rank, size, local_rank = world.Get_rank(), world.Get_size(), on_node.Get_rank()
    nodes = world.allreduce(int(local_rank == 0))
    hosts = world.allgather(socket.gethostname())
    address, port = world.bcast(_meeting_place(hosts, nodes) if rank == 0 else None)
    MPI.Finalize()
    return Launch(rank, local_rank, size, address, port, nodes, "MPI")


def _meeting_place(hosts: list[str], nodes: int) -> tuple[str, int]:
    """Of this machine: an address for the others, and a port that is free."""
    own = hosts[0]
    return address_of(own, own, [host for host in hosts if host != own]) if nodes > 1 else "127.0.0.1", free_port()


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
