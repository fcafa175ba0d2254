"""Our reader beside safetensors' own."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file

from flamingo_ds.checkpoint.mapped_file import DTYPES, MappedFile
from flamingo_ds.checkpoint.stored_tensor import CHUNK_ELEMENTS, StoredTensor
from flamingo_ds.checkpoint.tensor_header import ITEM_BYTES, DamagedFileError


def test_every_dtype_and_shape_is_as_the_library_reads_it(tmp_path):
    generator = torch.Generator().manual_seed(0)
    state = {
        f"{kind}.{shape}": torch.randint(0, 2, shape, generator=generator).to(dtype)
        for kind, dtype in DTYPES.items()
        for shape in ((), (3,), (0, 4), (2, 5, 3))
    }
    save_file(state, tmp_path / "all.safetensors", {"format": "pt", "step": "7"})
    file, theirs = MappedFile(tmp_path / "all.safetensors"), load_file(tmp_path / "all.safetensors")
    assert file.metadata == {"format": "pt", "step": "7"}
    assert set(file) == theirs.keys()
    for name, tensor in theirs.items():
        found = file[name]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape) == (file.dtype(name), file.shape(name))
        assert torch.equal(found.float(), tensor.float()), name
    assert "missing" not in file
    assert {name: dtype.itemsize for name, dtype in DTYPES.items()} == ITEM_BYTES
    with pytest.raises(KeyError):
        file["missing"]


def test_a_tensor_outlives_its_file(tmp_path):
    save_file({"a": torch.arange(5)}, tmp_path / "a.safetensors")
    tensor = MappedFile(tmp_path / "a.safetensors")["a"]
    (tmp_path / "a.safetensors").unlink()
    assert tensor.tolist() == [0, 1, 2, 3, 4]


@given(st.data())
def test_whatever_is_damaged_is_refused_or_read_within_its_bytes(tmp_path_factory, data):
    content = bytearray(save({"a": torch.arange(6.0), "b": torch.ones(2, 3)}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "x.safetensors"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        file = MappedFile(path)
    except DamagedFileError:
        return
    for name in file:
        assert file[name].numel() <= 12


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [8, 0]},
        {"dtype": "COMPLEX", "shape": [1], "data_offsets": [0, 8]},
        {"shape": [2]},
        [1],
    ],
)
def test_a_header_that_makes_no_sense(tmp_path, entry):
    header = json.dumps({"a": entry}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(DamagedFileError, match=r"x.safetensors has a damaged header"):
        MappedFile(tmp_path / "x.safetensors")


def test_chunks_are_the_bytes_of_the_cast_tensor():
    tensor = torch.randn(CHUNK_ELEMENTS + 3)
    stored = StoredTensor(tensor, torch.bfloat16)
    wanted = tensor.bfloat16().float()
    parts = [bytes(chunk) for chunk in stored.chunks(torch.float32)]
    assert [len(part) for part in parts] == [4 * CHUNK_ELEMENTS, 12]
    assert b"".join(parts) == wanted.numpy().tobytes()
    assert torch.equal(stored.value(), tensor.bfloat16())


def test_equal_after_a_cast_or_not():
    ours = StoredTensor(torch.tensor([1.0, 2.001]), torch.float32)
    theirs = StoredTensor.plain(torch.tensor([1.0, 2.0], dtype=torch.bfloat16))
    assert ours.equals(theirs, torch.bfloat16)
    assert not ours.equals(theirs, torch.float32)
    assert not ours.equals(theirs.rows(1), torch.bfloat16)
