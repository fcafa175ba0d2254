import pytest
from deepspeed.runtime.pipe.topology import PipeDataParallelTopology

from flamingo_ds.config import ConfigError
from flamingo_ds.parallel import Topology


@pytest.mark.parametrize(("stages", "replicas"), [(1, 1), (1, 4), (2, 1), (2, 2), (4, 2), (2, 8), (3, 5)])
def test_every_rank_is_where_deepspeed_puts_it(stages, replicas):
    """Our process groups are made by this order, DeepSpeed's by its own."""
    deepspeeds = PipeDataParallelTopology(num_pp=stages, num_dp=replicas)
    for rank in range(stages * replicas):
        place = Topology(rank, stages * replicas, stages)
        assert (place.stage, place.data_rank) == tuple(deepspeeds.get_coord(rank))
        assert place.data_ranks == replicas
        assert place.is_first == (rank in deepspeeds.filter_match(pipe=0))
        assert place.is_last == (rank in deepspeeds.filter_match(pipe=stages - 1))


@pytest.mark.parametrize(("world_size", "stages"), [(4, 3), (2, 4), (1, 2)])
def test_stages_that_the_ranks_cannot_share(world_size, stages):
    with pytest.raises(ConfigError) as caught:
        Topology(0, world_size, stages)
    assert str(caught.value) == (
        f"parallel.pipeline_stages = {stages}: expected a divisor of the {world_size} ranks of this run"
    )
