import pytest

from flamingo_ds.launching.preflight.checks import NodeReport
from flamingo_ds.launching.preflight.verdict import (
    judge_local,
    judge_together,
    judge_torch,
    name_missing,
    visible_gpus,
)

NODES = ["n1", "n1", "n2", "n2", "n3", "n3"]


def reports(**more: object) -> dict[int, NodeReport]:
    """Of six ranks on three nodes; ``n2={...}`` changes what that node says."""
    usual = {"python": "3.11.7", "torch": "2.15.0", "gpus_on_bus": 0, "free_gb": 100.0, "problem": ""}
    return {rank: NodeReport(rank, node, **{**usual, **more.get(node, {})}) for rank, node in enumerate(NODES)}


def test_good_nodes_are_good():
    assert judge_local(reports(), dict.fromkeys(range(6), 0.5)) == {}


@pytest.mark.parametrize(
    ("said", "skew", "reason"),
    [
        ({"problem": "cannot write to /run: Read-only file system"}, 0, "cannot write to /run: Read-only file system"),
        ({"python": "3.9.2"}, 0, "python 3.9.2, but 3.11.7 on most nodes"),
        ({"torch": "2.14.1"}, 0, "torch 2.14.1, but 2.15.0 on most nodes"),
        ({}, 7.25, "its clock is +7.2 s off that of n1"),
        ({}, -90, "its clock is -90.0 s off that of n1"),
    ],
)
def test_a_node_unlike_the_others_is_bad(said, skew, reason):
    assert judge_local(reports(n2=said), {3: skew}) == {"n2": reason}


def test_the_first_node_may_be_the_odd_one():
    assert list(judge_local(reports(n1={"torch": "2.14.1"}), {})) == ["n1"]


def test_a_node_that_does_not_answer_is_bad():
    assert name_missing({0: 1, 1: 1, 2: 1, 4: 1, 5: 1}, NODES, 100.0) == {"n2": "no answer within 100 s"}


def test_torch_that_cannot_be_imported():
    answers = {rank: {"gpus": 0} for rank in range(6)} | {5: {"problem": "ImportError: libcudart.so"}}
    assert judge_torch(answers, reports(), 2) == {"n3": "ImportError: libcudart.so"}


@pytest.mark.parametrize(
    ("gpus", "on_bus", "needed", "bad"),
    [
        ([0, 0, 0, 0, 0, 0], 0, 2, {}),  # a cluster without any
        ([2, 2, 2, 2, 2, 2], 2, 2, {}),
        ([1, 1, 1, 1, 1, 1], 2, 2, {}),  # each task sees its own
        ([2, 2, 2, 2, 2, 2], 2, None, {}),
        ([2, 2, 1, 0, 2, 2], 2, 2, {"n2": "torch sees 1 GPUs, not 2"}),
        ([0, 0, 2, 2, 2, 2], 0, 2, {"n1": "torch sees 0 GPUs, not 2"}),
        ([0] * 6, 2, 2, dict.fromkeys(("n1", "n2", "n3"), "torch sees 0 GPUs, not 2")),  # drivers are broken
    ],
)
def test_gpus_are_counted_where_there_are_any(gpus, on_bus, needed, bad):
    everywhere = {node: {"gpus_on_bus": on_bus} for node in ("n1", "n2", "n3")}
    answers = {rank: {"gpus": count} for rank, count in enumerate(gpus)}
    assert judge_torch(answers, reports(**everywhere), needed) == bad


def test_gpus_of_a_node():
    assert [visible_gpus(each) for each in ([8] * 8, [1] * 8, [0, 0], [1])] == [8, 8, 0, 1]


@pytest.mark.parametrize(
    ("behind", "phase", "bad"),
    [
        ([2], "joining", {"n2": "joining: stuck"}),
        ([2, 3], "reducing on the node", {"n2": "reducing on the node: stuck"}),
        ([0, 2], "joining", {}),  # two of three nodes: who is to blame?
        (range(6), "reducing over all ranks", {}),
        ([], "done", {}),
    ],
)
def test_the_node_behind_the_others_holds_them_up(behind, phase, bad):
    answers = {rank: {"phase": "reducing over all ranks" if behind else "done"} for rank in range(6)}
    answers |= {rank: {"phase": phase} for rank in behind}
    assert judge_together(answers, reports()) == bad
