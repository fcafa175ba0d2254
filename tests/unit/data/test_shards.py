import gzip
import random
from pathlib import Path

import pytest

from flamingo_ds.config import ConfigError
from flamingo_ds.data.bad_samples import BadSample
from flamingo_ds.data.shards import Patience, RawSample, expand_shards, read_shard

from .making import pair, picture, write_shards, write_tar


def read(path: Path | str) -> tuple[list[str], list[str]]:
    """Keys of a shard's samples, and the errors on the way."""
    errors: list[BadSample] = []
    samples = list(read_shard(str(path), Patience(retries=0), errors.append))
    return [sample.key for sample in samples if not sample.bad], [error.reason for error in errors]


def test_braces_count_and_a_glob_finds_in_order(tmp_path):
    paths = write_shards(tmp_path, [1, 1, 1])
    assert expand_shards("key", f"{tmp_path}/pairs-{{000..002}}.tar") == paths
    assert expand_shards("key", f"{tmp_path}/pairs-*.tar") == paths
    assert expand_shards("key", f"{tmp_path}/pairs-{{002,000}}.tar") == [paths[2], paths[0]]
    assert expand_shards("key", paths[1]) == [paths[1]]


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("none-*.tar", "none-*.tar", "at least one tar file that matches"),
        ("none.tar", "none.tar", "a tar file; 1 of 1 shards are not there"),
        ("pairs-{000..004}.tar", "pairs-002.tar", "a tar file; 3 of 5 shards are not there"),
    ],
)
def test_shards_that_are_not_there(tmp_path, pattern, value, expected):
    write_shards(tmp_path, [1, 1])
    with pytest.raises(ConfigError) as caught:
        expand_shards("data.datasets.pairs.shards", f"{tmp_path}/{pattern}")
    assert str(caught.value) == f"data.datasets.pairs.shards = '{tmp_path}/{value}': expected {expected}"


def test_the_members_of_a_sample_come_together_undecoded(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("x/1.JPG", b"one"), ("x/1.txt", b"two"), ("x/2.txt", b"three")])
    first, second = read_shard(str(path), Patience(), lambda error: None)
    assert first == RawSample(str(path), "x/1", {"jpg": b"one", "txt": b"two"})
    assert second == RawSample(str(path), "x/2", {"txt": b"three"})


def test_a_compressed_tar_is_read_too(tmp_path):
    path = write_tar(tmp_path / "a.tar", pair("1") + pair("2"))
    packed = tmp_path / "a.tar.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read(packed) == (["1", "2"], [])


def test_a_truncated_compressed_tar_is_told_once(tmp_path):
    path = write_tar(tmp_path / "a.tar", pair("1", image=random.Random(0).randbytes(4000)))
    packed = tmp_path / "a.tar.gz"
    packed.write_bytes(gzip.compress(path.read_bytes())[:2000])
    assert read(packed) == ([], ["ReadError: unexpected end of data"])


def test_a_tar_without_members_is_no_error(tmp_path):
    assert read(write_tar(tmp_path / "a.tar", [])) == ([], [])


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "ReadError: empty header at byte 0"),
        (b"no tar at all " * 100, "ReadError: invalid header at byte 0"),
    ],
)
def test_a_file_that_is_no_tar_is_told_once(tmp_path, content, error):
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    assert read(path) == ([], [error])


def test_a_vanished_tar_is_told_once(tmp_path):
    keys, errors = read(tmp_path / "gone.tar")
    assert keys == []
    assert [error.partition(":")[0] for error in errors] == ["FileNotFoundError"]


# Blocks of 512 bytes of a shard of four pairs: header and content of 0.png, of 0.txt, of 1.png, ...
@pytest.mark.parametrize(
    ("blocks", "keys", "error"),
    [
        (4, [], "empty header at byte 2048"),  # between two samples
        (5.1, [], "unexpected end of data"),  # within a picture
        (6, ["0"], "empty header at byte 3072"),  # between a picture and its text
        (7, ["0"], "unexpected end of data"),
        (8.5, ["0"], "truncated header at byte 4096"),  # tarfile itself takes this for the end and says nothing
    ],
)
def test_a_truncated_tar_gives_what_is_surely_whole_and_is_told_once(tmp_path, blocks, keys, error):
    path = write_tar(tmp_path / "a.tar", [member for key in range(4) for member in pair(str(key))])
    assert len(picture(1)) <= 512
    path.write_bytes(path.read_bytes()[: int(blocks * 512)])
    assert read(path) == (keys, [f"ReadError: {error}"])


def test_a_hole_in_a_tar_is_told(tmp_path):
    path = write_tar(tmp_path / "a.tar", [member for key in range(4) for member in pair(str(key))])
    content = bytearray(path.read_bytes())
    content[8 * 512 : 9 * 512] = b"x" * 512
    path.write_bytes(content)
    assert read(path) == (["0"], ["ReadError: invalid header at byte 4096"])


def test_a_name_that_is_there_twice_is_told(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("1.txt", b"a"), ("1.txt", b"b"), ("2.txt", b"c")])
    first, second = read_shard(str(path), Patience(), lambda error: None)
    assert (first.key, first.bad.kind, second.key, second.bad) == ("1", "duplicate_member", "2", None)
