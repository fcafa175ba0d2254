import json
from collections import Counter
from itertools import islice

import pytest

from flamingo_ds.config import ConfigError
from flamingo_ds.config.schema import SampleFormat
from flamingo_ds.data.bad_samples import ENOUGH_TO_JUDGE

from .making import page, pair, picture, write_shards, write_tar

GOOD = pair("000", "a red cat")
# One bad sample of each kind, between good ones; the kind is the key of the sample.
BAD_PAIRS = {
    "truncated_image": pair("truncated", image=picture(1, "JPEG")[:-2]),
    "unreadable_image": pair("zero_bytes", image=b""),
    "undecodable_text": pair("latin", text=b"caf\xe9"),
    "no_text": pair("blank", text=" "),
    "missing_pair": pair("without_text")[:1] + pair("without_image")[1:],
    "too_large_image": pair("bomb", image=picture(1, size=(64, 64))),
}
BAD_PAGES = {
    "broken_json": [("broken.json", b"{")],
    "no_image": page("textual", ["a"], [None], []),
    "no_text": page("silent", [None], [0], [picture(1)]),
    "missing_pair": page("absent", [None, "a"], [0, None], []),
}


def media(dataset, count):
    """Input ids of the next sequences."""
    return [sequence.input_ids for sequence in islice(dataset, count)]


def logged(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("kind", "first", "bad"),
    [
        (SampleFormat.image_text, GOOD, BAD_PAIRS),
        (SampleFormat.interleaved, page("000", [None, "a"], [0, None], [picture(1)]), BAD_PAGES),
    ],
)
def test_bad_samples_are_passed_over_counted_and_written_down(tmp_path, monkeypatch, make_dataset, kind, first, bad):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1000)
    members = [*first, *(member for samples in bad.values() for member in samples)]
    shard = str(write_tar(tmp_path / "a.tar", members))
    log = tmp_path / "bad_samples.jsonl"
    dataset = make_dataset(shard, kind, log=log, max_bad_share=1.0)
    first_epoch, second_epoch = media(dataset, 2)
    assert first_epoch == second_epoch  # nothing but the one good sample comes through

    one_epoch = Counter({kind: len({name.split(".")[0] for name, _ in samples}) for kind, samples in bad.items()})
    written = logged(log)[: one_epoch.total()]
    assert Counter(line["kind"] for line in written) == one_epoch
    assert {line["sample"] for line in written} == {
        name.split(".")[0] for samples in bad.values() for name, _ in samples
    }
    assert {(line["dataset"], line["shard"]) for line in written} == {("pairs", shard)}
    assert dataset.bad.kinds.keys() == bad.keys()


def test_broken_shards_in_the_middle_are_passed_over_and_named(tmp_path, make_dataset):
    shards = write_shards(tmp_path, [4] * 4)
    (tmp_path / "pairs-001.tar").write_bytes(b"garbage" * 200)
    content = (tmp_path / "pairs-002.tar").read_bytes()
    (tmp_path / "pairs-002.tar").write_bytes(content[: 512 * 10])  # two samples are left, and half of the third
    log = tmp_path / "bad.jsonl"
    dataset = make_dataset(f"{tmp_path}/pairs-*.tar", log=log, max_bad_share=1.0)
    sequences = media(dataset, 10)
    while dataset.position.epoch == 0:
        next(dataset)
    assert len({tuple(sequence) for sequence in sequences}) == 10
    lines = [line for line in logged(log)[:2] if line["kind"] == "broken_tar"]
    assert sorted(line["shard"] for line in lines) == shards[1:3]
    assert {line["reason"] for line in lines} == {
        "ReadError: invalid header at byte 0",
        "ReadError: empty header at byte 5120",
    }


def test_a_shard_that_vanishes_during_the_run_is_passed_over(tmp_path, make_dataset):
    shards = write_shards(tmp_path, [2, 2])
    dataset = make_dataset(f"{tmp_path}/pairs-*.tar", max_bad_share=1.0)
    (tmp_path / "pairs-001.tar").unlink()
    assert len(media(dataset, 6)) == 6
    assert dataset.bad.shards.keys() == {shards[1]}


def test_too_many_bad_samples_stop_the_run_and_name_the_worst_shard(tmp_path, make_dataset):
    good = [member for key in range(120) for member in pair(f"{key:04}")]
    write_tar(tmp_path / "0.tar", good)
    rotten = str(write_tar(tmp_path / "1.tar", [member for key in range(120) for member in pair(f"{key:04}", " ")]))
    dataset = make_dataset(f"{tmp_path}/*.tar", max_bad_share=0.3)
    with pytest.raises(ConfigError, match=rf"of \d+ are in {rotten}; kinds: no_text \d+$") as caught:
        media(dataset, 1000)
    assert caught.value.key == "data.datasets.pairs"
    assert dataset.bad.seen >= ENOUGH_TO_JUDGE


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "a readable tar file; ReadError: empty header at byte 0"),
        (b"garbage" * 200, "a readable tar file; ReadError: invalid header at byte 0"),
        (bytes(10240), "a tar file with samples; it has none"),
    ],
)
def test_a_first_shard_that_cannot_be_read_is_refused_at_once(tmp_path, make_dataset, content, expected):
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        make_dataset(str(path))
    assert str(caught.value) == f"data.datasets.pairs.shards = {str(path)!r}: expected {expected}"


def test_a_beginning_without_a_usable_sample_is_refused_at_once(tmp_path, make_dataset):
    path = write_tar(tmp_path / "a.tar", pair("000", image=b"no image") + pair("001", image=b"no image"))
    with pytest.raises(ConfigError) as caught:
        make_dataset(str(path))
    assert caught.value.value == f"{path}:000"
    assert caught.value.expected.startswith("a usable sample among the first 100; the first: unreadable_image: ")
    assert "\n" not in str(caught.value)


def test_a_bad_first_sample_alone_is_no_reason_to_stop(tmp_path, make_dataset):
    path = write_tar(tmp_path / "a.tar", pair("000", image=b"no image") + pair("001"))
    assert media(make_dataset(str(path)), 1)


def test_a_format_that_does_not_fit_the_shards_is_refused_at_once(tmp_path, make_dataset):
    (shard,) = write_shards(tmp_path, [2])
    with pytest.raises(ConfigError) as caught:
        make_dataset(shard, SampleFormat.interleaved)
    assert str(caught.value) == (
        f"data.datasets.pairs.shards = '{shard}:000': expected a usable sample among the "
        "first 100; the first: missing_pair: no json member"
    )


def test_checking_the_beginning_writes_nothing_down(tmp_path, make_dataset):
    (shard,) = write_shards(tmp_path, [2])
    make_dataset(shard, log=tmp_path / "bad.jsonl")
    assert not (tmp_path / "bad.jsonl").exists()
