"""Open MPI itself is tried in tests/integration/test_launchers.py; here a stand-in of its communicator."""

import builtins
import sys
from types import SimpleNamespace

import pytest

from flamingo_ds.config import ConfigError
from flamingo_ds.launching import mpi
from flamingo_ds.launching.launch import Launch


class World:
    def __init__(self, rank: int, size: int, local_rank: int, nodes: int, sent: tuple[str, int] | None) -> None:
        self.rank, self.size, self.local_rank, self.nodes, self.sent = rank, size, local_rank, nodes, sent

    def Split_type(self, kind: str) -> SimpleNamespace:  # noqa: N802
        assert kind == "shared"
        return SimpleNamespace(Get_rank=lambda: self.local_rank)

    def Get_rank(self) -> int:  # noqa: N802
        return self.rank

    def Get_size(self) -> int:  # noqa: N802
        return self.size

    def allreduce(self, value: int) -> int:
        assert value == int(self.local_rank == 0)
        return self.nodes

    def allgather(self, host: str) -> list[str]:
        return ["n1"] * (self.size // self.nodes) + [host] * (self.size - self.size // self.nodes)

    def bcast(self, value: tuple[str, int] | None) -> tuple[str, int] | None:
        assert (value is not None) == (self.rank == 0)
        return value or self.sent


@pytest.fixture
def ask(monkeypatch):
    def with_world(world: World) -> Launch:
        left = []
        module = SimpleNamespace(COMM_WORLD=world, COMM_TYPE_SHARED="shared", Finalize=lambda: left.append(True))
        monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=module))
        mpi.ask_mpi.cache_clear()
        launch = mpi.ask_mpi()
        assert left == [True]
        assert mpi.ask_mpi() is launch  # MPI cannot be asked twice
        return launch

    yield with_world
    mpi.ask_mpi.cache_clear()


def test_rank_0_says_where_it_can_be_met(ask, monkeypatch):
    monkeypatch.setattr(mpi, "address_of", lambda name, own, peers: f"{name} {own} for {len(peers)}")
    launch = ask(World(0, 4, 0, 2, None))
    assert (launch.rank, launch.world_size, launch.nodes, launch.master_address) == (0, 4, 2, "n1 n1 for 2")
    assert launch.master_port not in (0, 29500)


def test_one_machine_meets_on_itself(ask):
    assert ask(World(0, 2, 0, 1, None)).master_address == "127.0.0.1"


def test_the_others_listen(ask):
    assert ask(World(3, 4, 1, 2, ("10.0.0.1", 23456))) == Launch(3, 1, 4, "10.0.0.1", 23456, 2, "MPI")


def test_without_an_mpi_library_it_says_so(monkeypatch):
    monkeypatch.delitem(sys.modules, "mpi4py", raising=False)
    real = builtins.__import__

    def fail(name, *arguments, **keywords):
        if name == "mpi4py":
            raise RuntimeError("cannot load MPI library\nlibmpi.so.12: no such file")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", fail)
    mpi.ask_mpi.cache_clear()
    with pytest.raises(ConfigError, match="mpi4py = 'cannot load MPI library': expected mpi4py and the MPI library"):
        mpi.ask_mpi()
