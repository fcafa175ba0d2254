"""Which rank is which: stages of a pipeline by data-parallel replicas.

For 2 stages on 8 ranks::

    stage 0:  0  1  2  3        ranks of a row hold the same layers and different samples (a data-parallel group),
    stage 1:  4  5  6  7        ranks of a column the same samples and different layers (a pipeline)

Neighbours of a row are neighbours in a node: they exchange gradients and shards, which is more than a pipeline's
activations. DeepSpeed's ``PipeDataParallelTopology`` has the same order, and a test holds them together.
"""

from dataclasses import dataclass

from ..config import ConfigError


@dataclass(frozen=True)
class Topology:
    """The place of one rank.

    Attributes:
        rank, world_size: of this process among all.
        stages: of the pipeline; 1 for none.
    """

    rank: int
    world_size: int
    stages: int = 1

    def __post_init__(self) -> None:
        if self.world_size % self.stages:
            raise ConfigError(
                "parallel.pipeline_stages", self.stages, f"a divisor of the {self.world_size} ranks of this run"
            )

    @property
    def data_ranks(self) -> int:
        """Replicas, each with samples of its own."""
        return self.world_size // self.stages

    @property
    def data_rank(self) -> int:
        """Which replica this rank belongs to."""
        return self.rank % self.data_ranks

    @property
    def stage(self) -> int:
        """This rank's stage, from 0."""
        return self.rank // self.data_ranks

    @property
    def is_first(self) -> bool:
        """Whether this rank reads data: text and images come in here."""
        return self.stage == 0

    @property
    def is_last(self) -> bool:
        """Whether this rank has the head and computes the loss."""
        return self.stage == self.stages - 1
