"""Ranks as threads, on the loopback interface, with a stand-in for the process with torch."""

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from flamingo_ds.launching.bad_nodes import main as bad_nodes
from flamingo_ds.launching.launch import Launch
from flamingo_ds.launching.preflight import run as preflight_run
from flamingo_ds.launching.preflight.checks import REHEARSAL_VARIABLE
from flamingo_ds.launching.preflight.run import Options, Preflight
from flamingo_ds.launching.preflight.star import Connection
from flamingo_ds.launching.run_files import RunFiles
from flamingo_ds.launching.summary import bad_nodes as all_bad_nodes

GOOD = {"phase": "done", "node_seconds": 0.01, "all_seconds": 0.02, "megabytes": 8}


class StubProbe:
    """Answers at once; ``torch`` and ``together`` say what by rank."""

    ended = 0

    def __init__(self, rank: int, torch: Mapping[int, Any], together: Mapping[int, Any]) -> None:
        self.rank, self.torch, self.together = rank, torch, together

    def versions(self, deadline: float) -> dict[str, Any]:
        return self.torch.get(self.rank, {"gpus": 0})

    def reduce(self, place: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        assert place["nodes"] == [[0, 1], [2, 3], [4, 5]]
        assert place["rank"] == self.rank
        return self.together.get(self.rank, GOOD)

    def end(self) -> None:
        StubProbe.ended += 1


@pytest.fixture(autouse=True)
def short_margins(monkeypatch):
    monkeypatch.setattr(preflight_run, "MARGIN_SECONDS", 0.5)


def free_pair() -> int:
    """A port whose next one is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1]) - 1


Ran = tuple[dict[int, int], dict[str, Any], str]


@pytest.fixture
def ranks(tmp_path) -> Callable[..., Ran]:
    def start(
        absent: tuple[int, ...] = (),
        torch: Mapping[int, Any] | None = None,
        together: Mapping[int, Any] | None = None,
        restart: int = 0,
        folders: Mapping[int, Path] | None = None,
        **more: str,
    ) -> Ran:
        """Six ranks on three nodes but those that are absent: exit codes, the file, and what was said."""
        codes: dict[int, int] = {}
        said: list[str] = []
        port = free_pair()

        def one(rank: int) -> None:
            launch = Launch(rank, rank % 2, 6, "127.0.0.1", port, 3)
            environ = {
                "SLURM_JOB_ID": "12",
                "SLURM_STEP_ID": "0",
                "SLURM_PROCID": str(rank),
                "SLURM_LOCALID": str(rank % 2),
                "SLURM_STEP_NUM_TASKS": "6",
                "SLURM_STEP_NODELIST": "n[1-3]",
                "SLURMD_NODENAME": f"n{1 + rank // 2}",
                "SLURM_RESTART_COUNT": str(restart),
                **more,
            }
            options = Options((folders or {}).get(rank, tmp_path), 2, 3.5, 0.001)
            probe = StubProbe(rank, torch or {}, together or {})
            codes[rank] = Preflight(options, launch, environ, lambda _: probe, said.append).run()

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(6) if rank not in absent]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        return codes, json.loads((tmp_path / "logs/12/preflight-12.json").read_text()), "\n".join(said)

    return start


def test_fit_nodes(ranks, tmp_path, capsys):
    StubProbe.ended = 0
    codes, file, said = ranks()
    assert codes == dict.fromkeys(range(6), 0)
    assert file == {"restart": 0, "bad": {}, "failure": "", "attempts": [{"restart": 0, "bad": {}, "failure": ""}]}
    assert [line.split()[0] for line in said.splitlines()] == ["node", "n1", "n2", "n3", "all-reduce"]
    assert said.splitlines()[1].split()[-1] == "0.80"  # 2 * 1/2 * 8 MB in 0.01 s
    assert said.splitlines()[-1] == "all-reduce over all 6 ranks, bus bandwidth in GB/s: 0.67"
    assert StubProbe.ended == 6
    assert bad_nodes([str(tmp_path / "logs/12/preflight-12.json")]) == 0
    assert capsys.readouterr().out == "\n"


def test_a_rehearsal_names_the_node_and_starts_add_up(ranks, tmp_path, capsys):
    codes, file, said = ranks(**{REHEARSAL_VARIABLE: "n2"})
    assert codes == dict.fromkeys(range(6), 87)
    assert file["bad"] == {"n2": "a rehearsal: FLAMINGO_PREFLIGHT_BAD=n2"}
    assert said.splitlines()[-1] == "bad node n2: a rehearsal: FLAMINGO_PREFLIGHT_BAD=n2"
    assert bad_nodes([str(tmp_path / "logs/12/preflight-12.json")]) == 0
    assert capsys.readouterr().out == "n2\n"
    codes, file, _ = ranks(restart=1)
    assert codes == dict.fromkeys(range(6), 0)
    assert (file["bad"], len(file["attempts"])) == ({}, 2)
    assert list(all_bad_nodes(RunFiles(tmp_path))) == ["n2"]


@pytest.mark.parametrize("absent", [(2,), (2, 3), (5,)])
def test_a_rank_that_does_not_come(ranks, absent):
    codes, file, _ = ranks(absent=absent)
    assert set(codes.values()) == {87}
    assert file["bad"] == {f"n{1 + absent[0] // 2}": "no answer within 1 s"}


def test_without_rank_0_the_others_say_so(ranks):
    codes, file, _ = ranks(absent=(0,))
    assert set(codes.values()) == {87}
    assert list(file["bad"]) == ["n1"]
    assert file["bad"]["n1"].startswith("rank 0 is gone: 127.0.0.1:")
    assert len(file["attempts"]) == 1


def test_a_first_node_that_cannot_write_is_named_by_another(ranks, tmp_path):
    nowhere = Path("/proc/self/fdinfo")
    codes, file, _ = ranks(folders={0: nowhere, 1: nowhere})
    assert set(codes.values()) == {87}
    assert list(file["bad"]) == ["n1"]
    assert file["bad"]["n1"].startswith(f"cannot write to {nowhere}: ")


def test_torch_that_fails_on_a_node(ranks):
    codes, file, _ = ranks(torch={3: {"problem": "ImportError: no (exit code 1, importing torch)"}})
    assert set(codes.values()) == {87}
    assert file["bad"] == {"n2": "ImportError: no (exit code 1, importing torch)"}


def test_a_node_that_hangs_in_the_reduction(ranks):
    waiting = {"phase": "reducing over all ranks", "problem": "still reducing over all ranks when the time was over"}
    stuck = {"phase": "joining", "problem": "still joining when the time was over"}
    codes, file, _ = ranks(together={rank: stuck if rank == 5 else waiting for rank in range(6)})
    assert set(codes.values()) == {87}
    assert file["bad"] == {"n3": "joining: still joining when the time was over"}


def test_a_failure_that_nobody_is_to_blame_for_names_no_node(ranks):
    codes, file, said = ranks(together={rank: {"phase": "joining", "problem": "no route"} for rank in range(6)})
    assert set(codes.values()) == {1}
    assert file["bad"] == {}
    assert file["failure"] == "6 ranks cannot reduce; rank 0 on n1: no route"
    assert said.splitlines()[-1] == file["failure"]


def test_what_is_wrong_everywhere_excludes_nobody(ranks):
    codes, file, _ = ranks(torch={rank: {"problem": "ImportError"} for rank in range(6)})
    assert set(codes.values()) == {1}
    assert (file["bad"], file["failure"]) == ({}, "every node is bad, such as n1: ImportError")


def test_a_line_that_breaks_is_not_waited_for():
    ours, theirs = socket.socketpair()
    theirs.sendall(b'{"half')
    theirs.close()
    began = time.monotonic()
    with pytest.raises(OSError, match="the other end is gone"):
        Connection(ours).receive(began + 30)
    assert time.monotonic() - began < 10


def test_a_single_process_has_nobody_to_wait_for(tmp_path):
    options = Options(tmp_path, None, 300.0, 0.001, collectives=False)
    said: list[str] = []
    assert Preflight(options, Launch(0, 0, 1, "127.0.0.1", 20000), {}, say=said.append).run() == 0
    assert json.loads((tmp_path / "logs/preflight-alone.json").read_text())["bad"] == {}
    assert len(said) == 1
