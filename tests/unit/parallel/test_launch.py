import socket

import pytest

from flamingo_ds.config import ConfigError
from flamingo_ds.parallel.launch import VARIABLES, Launch, read_launch

LAUNCHED = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}


def test_the_place_that_a_launcher_gives():
    launch = read_launch(LAUNCHED)
    assert launch == Launch(rank=3, local_rank=1, world_size=4, master_address="node1", master_port=29500)
    assert not launch.is_main


def test_rank_0_speaks_for_all():
    assert read_launch({**LAUNCHED, "RANK": "0", "LOCAL_RANK": "0"}).is_main


# A master that a shell or a container exports does not make a launch, nor do variables that are set to nothing.
@pytest.mark.parametrize(
    "environment",
    [{}, {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}, dict.fromkeys(VARIABLES, ""), {"SLURM_PROCID": "3"}],
)
def test_without_a_launcher_it_is_one_process_on_this_machine(environment):
    launch = read_launch(environment)
    assert (launch.rank, launch.local_rank, launch.world_size) == (0, 0, 1)
    assert launch.is_main
    assert launch.master_address == "127.0.0.1"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", launch.master_port))


@pytest.mark.parametrize("absent", VARIABLES)
def test_some_of_the_variables_are_not_enough(absent):
    environment = {name: value for name, value in LAUNCHED.items() if name != absent}
    with pytest.raises(ConfigError) as caught:
        read_launch(environment)
    given = ", ".join(name for name in VARIABLES if name != absent)
    assert str(caught.value) == (
        f"environment = '{given}': expected all of {', '.join(VARIABLES)} or none; missing: {absent}"
    )


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT"])
def test_a_value_that_is_no_number_is_named(name):
    with pytest.raises(ConfigError) as caught:
        read_launch({**LAUNCHED, name: "two"})
    assert str(caught.value) == f"{name} = 'two': expected an integer (environment)"


@pytest.mark.parametrize(
    ("rank", "local_rank", "world_size"), [("4", "0", "4"), ("-1", "0", "4"), ("1", "2", "4"), ("0", "-1", "4")]
)
def test_a_place_that_cannot_be(rank, local_rank, world_size):
    environment = {**LAUNCHED, "RANK": rank, "LOCAL_RANK": local_rank, "WORLD_SIZE": world_size}
    with pytest.raises(ConfigError) as caught:
        read_launch(environment)
    assert str(caught.value) == (
        f"environment = 'RANK={rank} LOCAL_RANK={local_rank} WORLD_SIZE={world_size}': "
        "expected 0 <= LOCAL_RANK <= RANK < WORLD_SIZE"
    )
