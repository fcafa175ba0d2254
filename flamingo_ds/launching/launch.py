"""A process's place among the others."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """One process among ``world_size``.

    Attributes:
        rank, local_rank: its number in the job and on its node.
        world_size: how many there are.
        master_address, master_port: where all meet; rank 0 listens there.
        nodes: on how many nodes they run, as far as it is known; 1 where it is not.
        source: who said all this, for people.
    """

    rank: int
    local_rank: int
    world_size: int
    master_address: str
    master_port: int
    nodes: int = 1
    source: str = "given"

    @property
    def is_main(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0


@dataclass(frozen=True)
class Claim:
    """What one source says of this process, to be held against the others.

    Attributes:
        text: both numbers with their names, as the user finds them in the environment.
        rank, world_size: what it says.
        only_agents: each node has one process of it, which may be an agent that starts the ranks.
        by_agent: it comes from an agent, so it may differ from what the agent itself was told.
    """

    text: str
    rank: int
    world_size: int
    only_agents: bool = False
    by_agent: bool = False
