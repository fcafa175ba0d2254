import socket

import pytest

from flamingo_ds.config import ConfigError
from flamingo_ds.launching import rank_source
from flamingo_ds.launching.hostlist import expand_hostlist
from flamingo_ds.launching.launch import Launch
from flamingo_ds.launching.rank_source import VARIABLES, likely_rank, read_launch
from flamingo_ds.launching.slurm_step import port_of

LAUNCHED = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
TORCHRUN = {**LAUNCHED, "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1", "GROUP_WORLD_SIZE": "4"}
DEEPSPEED = {**LAUNCHED, "WORLD_SIZE": "8", "LOCAL_SIZE": "2", "CROSS_RANK": "1", "CROSS_SIZE": "4"}
ADDRESSES = {"n1": "10.0.0.1", "n2": "10.0.0.2", "n3": "10.0.0.3", "n4": "10.0.0.4", "node1": "10.0.0.1"}


def step(rank: int, tasks: int, nodes: str = "n[1-4]", step_id: str = "0", **more: str) -> dict[str, str]:
    """Of a task on n2, as SLURM 22.05 sets it."""
    count = str(len(expand_hostlist(nodes)))
    return {
        "SLURM_JOB_ID": "12",
        "SLURM_STEP_ID": step_id,
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank % (tasks // int(count) or 1)),
        "SLURM_NTASKS": str(tasks),
        "SLURM_STEP_NUM_TASKS": str(tasks),
        "SLURM_STEP_NUM_NODES": count,
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_JOB_NODELIST": "n[1-9]",
        "SLURMD_NODENAME": "n2",
        **more,
    }


def mpirun(rank: int, size: int, local_size: int = 2) -> dict[str, str]:
    sizes = {"OMPI_COMM_WORLD_SIZE": str(size), "OMPI_COMM_WORLD_LOCAL_SIZE": str(local_size)}
    return {"OMPI_COMM_WORLD_RANK": str(rank), **sizes}


# The shell of a batch script says that it is task 0 of all; salloc's shell and what SLURM itself starts are no ranks.
BATCH_SHELL = {
    "SLURM_JOB_ID": "12",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "4",
    "SLURM_NODEID": "0",
}
NO_RANKS = [
    BATCH_SHELL,
    *({**step(0, 4), "SLURM_STEP_ID": name} for name in ("4294967290", "4294967291", "4294967292", "batch", "")),
    step(0, 1, "n2"),
    mpirun(0, 1, 1),
]


def read(environment: dict[str, str]) -> Launch:
    return read_launch(environment, ADDRESSES.__getitem__)


@pytest.fixture(autouse=True)
def mpi(monkeypatch):
    """What MPI says when it is asked."""
    answer = Launch(5, 1, 8, "10.0.0.9", 31000, 4, "MPI")
    monkeypatch.setattr(rank_source, "ask_mpi", lambda: answer)
    return answer


def test_the_place_that_a_launcher_gives():
    launch = read_launch(LAUNCHED)
    assert launch == Launch(3, 1, 4, "node1", 29500, 1, "the launcher's environment")
    assert not launch.is_main


def test_rank_0_speaks_for_all():
    assert read_launch({**LAUNCHED, "RANK": "0", "LOCAL_RANK": "0"}).is_main


# A master that a shell or a container exports does not make a launch, nor do variables that are set to nothing.
@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"},
        dict.fromkeys(VARIABLES, ""),
        {"SLURM_PROCID": "3"},
        *NO_RANKS,
    ],
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


def test_a_task_of_a_step_is_a_rank():
    assert read(step(3, 8)) == Launch(3, 1, 8, "10.0.0.1", port_of(12, 0), 4, "SLURM step 12.0")
    on_one = read(step(1, 2, "n2", step_id="3"))
    assert on_one == Launch(1, 1, 2, "127.0.0.1", port_of(12, 3), 1, "SLURM step 12.3")


def test_ranks_that_agree_with_their_step_keep_the_launchers_master():
    launch = read({**step(3, 4), **LAUNCHED})
    assert (launch.rank, launch.world_size, launch.master_port) == (3, 4, 29500)


# One agent a node, each a task of the step; or one alone, from which pdsh goes out to the other nodes.
@pytest.mark.parametrize("launcher", [TORCHRUN, DEEPSPEED])
@pytest.mark.parametrize("outer", [step(1, 4), step(0, 1, "n2"), mpirun(1, 4, 1), {**step(1, 4), **mpirun(1, 4, 1)}])
def test_an_agent_in_a_step_starts_ranks(launcher, outer):
    launch = read({**outer, **launcher})
    assert (launch.rank, launch.local_rank, launch.world_size, launch.nodes) == (3, 1, 8, 4)


@pytest.mark.parametrize(
    ("environment", "given"),
    [
        (
            {**step(1, 4), **LAUNCHED, "WORLD_SIZE": "8"},
            "RANK=3 WORLD_SIZE=8, but SLURM step 12.0: SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=4 on 4 nodes",
        ),
        (
            {**step(1, 8), **TORCHRUN, "WORLD_SIZE": "16"},
            "RANK=3 WORLD_SIZE=16, but SLURM step 12.0: SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=8 on 4 nodes",
        ),
        (
            {**step(2, 8), **mpirun(1, 4)},
            "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=4, but SLURM step 12.0: SLURM_PROCID=2 "
            "SLURM_STEP_NUM_TASKS=8 on 4 nodes",
        ),
        (
            {**mpirun(1, 4), **LAUNCHED},
            "RANK=3 WORLD_SIZE=4, but OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=4",
        ),
    ],
)
def test_a_contradiction_shows_both_sides(environment, given):
    with pytest.raises(ConfigError) as caught:
        read(environment)
    assert str(caught.value) == (
        f"environment = '{given}': expected the same rank from both; "
        "unset the variables of the one that did not start this process"
    )


# mpirun inside an allocation starts its daemons as a step of one task a node; on its own node there is no step.
@pytest.mark.parametrize(
    "environment",
    [
        mpirun(5, 8),
        {**BATCH_SHELL, **mpirun(5, 8)},
        {**step(1, 3, "n[2-4]"), **mpirun(5, 8)},
        {"PMI_RANK": "5", "PMI_SIZE": "8"},
    ],
)
def test_mpi_is_asked_for_what_mpirun_started(environment, mpi):
    assert read(environment) is mpi


# As ``init_distributed`` leaves the environment.
def test_reading_again_gives_the_same_rank(mpi):
    environment = {**step(1, 3, "n[2-4]"), **mpirun(5, 8), **LAUNCHED, "RANK": "5", "WORLD_SIZE": "8"}
    assert (read(environment).rank, read(environment).world_size) == (mpi.rank, mpi.world_size)


@pytest.mark.parametrize("name", ["PMI", "OMPI_COMM_WORLD"])
def test_srun_with_mpi_needs_no_mpi(name):
    launch = read({**step(3, 8), f"{name}_RANK": "3", f"{name}_SIZE": "8"})
    assert launch.source == "SLURM step 12.0"


@pytest.mark.parametrize(
    "absent", ["SLURM_JOB_ID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST"]
)
def test_half_a_step_is_refused(absent):
    with pytest.raises(ConfigError, match=f"or none; missing: {absent}$"):
        read({name: value for name, value in step(3, 8).items() if name != absent})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"SLURM_NTASKS": "4"},
            "environment = 'SLURM_NTASKS=4': expected the same as SLURM step 12.0: SLURM_PROCID=3 ",
        ),
        ({"SLURM_STEP_NUM_NODES": "2"}, "environment = 'SLURM_STEP_NUM_NODES=2': expected the same as SLURM step 12.0"),
        ({"SLURMD_NODENAME": "n7"}, "environment = 'SLURMD_NODENAME=n7, which is none of n[1-4]': expected the same"),
        ({"SLURM_PROCID": "8"}, "environment = 'SLURM_PROCID=8 SLURM_LOCALID=1 SLURM_STEP_NUM_TASKS=8': expected 0 <="),
        ({"SLURM_LOCALID": "4"}, "environment = 'SLURM_PROCID=3 SLURM_LOCALID=4 SLURM_STEP_NUM_TASKS=8': expected"),
        ({"SLURM_PROCID": "one"}, "SLURM_PROCID = 'one': expected an integer (environment)"),
        ({"SLURM_STEP_NODELIST": "n[1-"}, "nodes = 'n[1-': expected a list of nodes as SLURM writes it"),
    ],
)
def test_a_step_that_contradicts_itself_is_refused(more, message):
    with pytest.raises(ConfigError) as caught:
        read({**step(3, 8), **more})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.1.1", "localhost"])
def test_several_nodes_do_not_meet_at_loopback(address):
    with pytest.raises(ConfigError, match=f"MASTER_ADDR = '{address}': expected an address that all nodes reach"):
        read_launch({**TORCHRUN, "MASTER_ADDR": address}, {"localhost": "127.0.0.1"}.get)
    alone = {**TORCHRUN, "MASTER_ADDR": address, "LOCAL_WORLD_SIZE": "8"}
    assert read_launch(alone, lambda name: name).master_address == address


def test_a_master_known_by_loopback_elsewhere_is_refused_and_replaced_on_its_own_node(monkeypatch):
    names = {**ADDRESSES, "n1": "127.0.1.1"}
    with pytest.raises(
        ConfigError, match=r"MASTER_ADDR = 'n1': expected an address that n2 reaches; it resolves to 12"
    ):
        read_launch(step(3, 8), names.get)
    monkeypatch.setattr("flamingo_ds.launching.addresses.own_address", lambda peers: f"mine towards {peers[0]}")
    first = read_launch({**step(0, 8), "SLURMD_NODENAME": "n1"}, names.get)
    assert first.master_address == "mine towards n2"
    # torchrun's and deepspeed's ranks on the master's own node
    assert read_launch({**TORCHRUN, "MASTER_ADDR": "n1", "RANK": "1"}, names.get).master_address == "n1"
    with pytest.raises(ConfigError, match="MASTER_ADDR = 'n1'"):
        read_launch({**TORCHRUN, "MASTER_ADDR": "n1"}, names.get)


def test_a_master_without_an_address_is_named():
    def unknown(name: str) -> str:
        raise socket.gaierror(-2, "Name or service not known")

    for environment in (step(3, 8), TORCHRUN):
        with pytest.raises(ConfigError, match=r"MASTER_ADDR = 'n.*1': expected a n.* resolve.*\(Name or service not"):
            read_launch(environment, unknown)


def test_jobs_and_steps_do_not_share_a_port():
    ports = [port_of(job, step) for job in range(1000, 1300) for step in range(31)]
    assert len(set(ports)) == len(ports)
    assert all(1024 < port < 32768 for port in ports)


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, 0),
        (LAUNCHED, 3),
        (step(2, 8), 2),
        ({**step(1, 4), **TORCHRUN}, 3),
        ({**step(1, 3, "n[2-4]"), **mpirun(5, 8)}, 5),
        ({"RANK": "x"}, 0),
        ({**BATCH_SHELL, "SLURM_PROCID": "2"}, 0),
    ],
)
def test_a_rank_is_guessed_from_half_an_environment(environment, rank):
    assert likely_rank(environment) == rank
