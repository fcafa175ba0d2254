import pytest
import torch

from flamingo_ds.checkpoint.key_table import KeyTable, Row

TABLE = KeyTable(
    [
        Row("block.{n}.kv", ("layer.{n}.k", "layer.{n}.v")),
        Row("block.{n}.{rest}", "layer.{n}.inner.{rest}"),
        Row("a", "b"),
    ],
    dropped=["alias.{rest}"],
)


def state():
    return {
        "layer.0.k": torch.zeros(2, 3),
        "layer.0.v": torch.ones(2, 3),
        "layer.12.inner.a.b": torch.full((1,), 5.0),
        "b": torch.ones(1),
    }


def test_both_directions():
    ours = TABLE.to_ours(state() | {"alias.layer.0": torch.zeros(1)})
    assert {name: tuple(tensor.shape) for name, tensor in ours.items()} == {
        "block.0.kv": (4, 3),
        "block.12.a.b": (1,),
        "a": (1,),
    }
    assert torch.equal(ours["block.0.kv"][:2], torch.zeros(2, 3))
    back = TABLE.to_theirs(ours)
    assert back.keys() == state().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state().items())


def test_a_dot_is_a_dot_and_a_number_a_number():
    with pytest.raises(ValueError, match="layerX0Xk has no name here"):
        TABLE.to_ours({"layerX0Xk": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"block\.x\.kv has no name there"):
        TABLE.to_theirs({"block.x.kv": torch.zeros(1)})


def test_half_a_tensor():
    with pytest.raises(ValueError, match=r"layer\.0\.k is there without layer\.0\.v"):
        TABLE.to_ours({"layer.0.k": torch.zeros(1)})
