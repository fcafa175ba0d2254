import pytest

from flamingo_ds.config import ConfigError
from flamingo_ds.parallel.launch import device_index


# ``--gpus-per-task=1`` shows each task one GPU, whatever its place on the node.
@pytest.mark.parametrize(("local_rank", "visible", "index"), [(0, 1, 0), (3, 1, 0), (0, 4, 0), (3, 4, 3)])
def test_a_rank_takes_its_own_device(local_rank, visible, index):
    assert device_index(local_rank, visible) == index


def test_more_ranks_than_devices_are_refused():
    with pytest.raises(ConfigError, match="LOCAL_RANK = 4: expected below 4, the GPUs that this rank sees"):
        device_index(4, 4)
