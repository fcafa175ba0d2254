import csv
import hashlib
import json
import tarfile

import pyarrow
import pytest
from pyarrow import parquet

from flamingo_ds.config import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED
from flamingo_ds.config.schema import SampleFormat
from tools.make_shards import main

from ..data.conftest import dataset_of
from ..data.making import picture
from ..data.test_videos import video


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    (folder / "frames").mkdir(parents=True)
    for number in range(1, 8):
        (folder / f"{number}.png").write_bytes(picture(number))
    for number in (10, 9):
        (folder / "frames" / f"frame-{number}.png").write_bytes(picture(number))
    (folder / "clip.mp4").write_bytes(video(2))
    return folder


def write_table(path, rows):
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            for row in rows:
                writer.writerow({key: json.dumps(v) if isinstance(v, list) else v for key, v in row.items()})
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def run(table, files, kind, out, *more):
    return main([str(table), "--files", str(files), "--format", kind, "--out", str(out), *more])


PAIRS = [{"image": f"{number}.png", "caption": f"{number} cat, a\ndog"} for number in range(1, 8)]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_pairs_of_any_table_can_be_trained_on(tmp_path, files, suffix, capsys):
    out = tmp_path / "out"
    table = write_table(tmp_path / f"table.{suffix}", PAIRS)
    assert run(table, files, "image_text", out, "--samples-per-shard", "3", "--name", "cats") == EXIT_DONE
    assert "7 samples in 3 shards" in capsys.readouterr().out
    index = json.loads((out / "index.json").read_text())
    assert [(shard["shard"], shard["samples"]) for shard in index["shards"]] == [
        ("cats-00000.tar", 3),
        ("cats-00001.tar", 3),
        ("cats-00002.tar", 1),
    ]
    for shard in index["shards"]:
        content = (out / shard["shard"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (shard["bytes"], shard["sha256"])
    assert (index["samples"], index["bytes"]) == (7, sum(shard["bytes"] for shard in index["shards"]))
    dataset = dataset_of(str(out))
    assert sorted(int(next(dataset).media[0][0, 0, 0, 0]) for _ in range(7)) == list(range(1, 8))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_pages(tmp_path, files, suffix):
    rows = [{"texts": [None, "a cat", None, "dog"], "images": ["1.png", None, "2.png", None]}] * 2
    out = tmp_path / "out"
    assert run(write_table(tmp_path / f"t.{suffix}", rows), files, "interleaved", out) == EXIT_DONE
    sequence = next(dataset_of(str(out), SampleFormat.interleaved))
    assert [int(media[0, 0, 0, 0]) for media in sequence.media] == [1, 2]


def test_videos_and_folders_of_frames(tmp_path, files):
    rows = [{"video": "clip.mp4", "caption": "a cat"}, {"video": "frames", "caption": "a dog"}]
    out = tmp_path / "out"
    assert run(write_table(tmp_path / "t.jsonl", rows), files, "video_text", out) == EXIT_DONE
    with tarfile.open(out / "shard-00000.tar") as archive:
        assert archive.getnames()[2:] == ["000000001.0000.png", "000000001.0001.png", "000000001.txt"]
    dataset = dataset_of(str(out), SampleFormat.video_text)
    sequences = [next(dataset) for _ in range(2)]
    assert sorted(len(sequence.media[0]) for sequence in sequences) == [2, 2]
    assert [9, 10] in [sequence.media[0][:, 0, 0, 0].tolist() for sequence in sequences]


def test_the_same_input_gives_the_same_bytes(tmp_path, files):
    table = write_table(tmp_path / "t.csv", PAIRS)
    for name in ("a", "b"):
        run(table, files, "image_text", tmp_path / name)
    assert (tmp_path / "a/index.json").read_text() == (tmp_path / "b/index.json").read_text()


def test_other_column_names(tmp_path, files):
    rows = [{"path": "1.png", "title": "a cat"}]
    table = write_table(tmp_path / "t.csv", rows)
    more = ("--image", "path", "--caption", "title")
    assert run(table, files, "image_text", tmp_path / "out", *more) == EXIT_DONE


def test_rows_that_cannot_be_used_are_left_out_and_named(tmp_path, files, capsys):
    (tmp_path / "secret.png").write_bytes(picture(1))
    rows = [
        *PAIRS[:1],
        {"image": "99.png", "caption": "a"},
        {"image": "../secret.png", "caption": "a"},
        {"image": str(tmp_path / "secret.png"), "caption": "a"},
        {"image": "1.png", "caption": " "},
        {"image": "1.txt", "caption": "a"},
        {"image": "", "caption": "a"},
    ]
    assert run(write_table(tmp_path / "t.csv", rows), files, "image_text", tmp_path / "out") == EXIT_FAILED
    said = capsys.readouterr()
    assert "1 samples in 1 shards" in said.out
    assert "6 rows left out" in said.out
    for expected in ("row 2 left out: 99.png: No such file", "row 3 left out: ../secret.png: not within", "no caption"):
        assert expected in said.err.replace("\n", " ")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.txt", "", "a file that ends in .csv, .jsonl, .parquet"),
        ("none.csv", None, "a file that is there"),
        ("t.csv", "picture,caption\n", "a column image (or --image NAME); it has: picture, caption"),
        ("t.csv", "image,caption\n", "at least one row that can be used"),
        ("t.jsonl", "{\n", "a JSON object a line; "),
        ("t.jsonl", "[]\n", "a JSON object a line, not a list"),
        ("t.parquet", "no parquet", "a parquet file; "),
    ],
)
def test_wrong_tables_are_one_line(tmp_path, files, capsys, name, content, expected):
    if content is not None:
        (tmp_path / name).write_text(content)
    assert run(tmp_path / name, files, "image_text", tmp_path / "out") == EXIT_BAD_INPUT
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert expected in line


def test_shards_that_are_there_are_not_overwritten(tmp_path, files, capsys):
    table = write_table(tmp_path / "t.csv", PAIRS)
    assert run(table, files, "image_text", tmp_path / "out") == EXIT_DONE
    assert run(table, files, "image_text", tmp_path / "out") == EXIT_BAD_INPUT
    assert "a folder without shard-*.tar; another one, or another --name" in capsys.readouterr().err
    assert run(table, tmp_path / "nowhere", "image_text", tmp_path / "new") == EXIT_BAD_INPUT
