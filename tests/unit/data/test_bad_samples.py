import json

import pytest

from flamingo_ds.config import ConfigError
from flamingo_ds.data.bad_samples import ENOUGH_TO_JUDGE, BadSample, BadSampleLog


def add(log, count, kind="no_text", shard="a.tar"):
    for number in range(count):
        log.add(shard, str(number), BadSample(kind, "why"))


def test_each_bad_sample_is_one_line_of_json(tmp_path):
    path = tmp_path / "bad_samples.jsonl"
    log = BadSampleLog("pairs", 1.0, path)
    log.add("a.tar", "001", BadSample("no_text", "nothing\nthere"))
    log.add("b.tar", "002", BadSample("broken_json", "é"))
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"dataset": "pairs", "shard": "a.tar", "sample": "001", "kind": "no_text", "reason": "nothing\nthere"},
        {"dataset": "pairs", "shard": "b.tar", "sample": "002", "kind": "broken_json", "reason": "é"},
    ]


def test_lines_are_added_to_those_of_an_earlier_run(tmp_path):
    path = tmp_path / "bad_samples.jsonl"
    for _ in range(2):
        add(BadSampleLog("pairs", 1.0, path), 1)
    assert len(path.read_text().splitlines()) == 2


def test_counts_are_kept_by_kind():
    log = BadSampleLog("pairs", 1.0, None)
    add(log, 2, "no_text")
    add(log, 1, "broken_json")
    assert log.kinds == {"no_text": 2, "broken_json": 1}


def test_too_large_a_share_stops_the_run_and_names_the_worst_shard():
    log = BadSampleLog("pairs", 0.1, None)
    log.seen = ENOUGH_TO_JUDGE
    add(log, 5, "no_text", "a.tar")
    add(log, 15, "broken_json", "b.tar")  # 20 of 200 are the limit, and not above it
    with pytest.raises(ConfigError) as caught:
        add(log, 2, "broken_json", "b.tar")
    assert str(caught.value) == (
        "data.datasets.pairs = '10.5% bad samples': expected at most 10.0% (data.max_bad_share); "
        "16 of 21 are in b.tar; kinds: broken_json 16, no_text 5"
    )


def test_a_few_samples_say_nothing_yet():
    log = BadSampleLog("pairs", 0.1, None)
    log.seen = ENOUGH_TO_JUDGE - 1
    add(log, log.seen)
    assert log.kinds.total() == ENOUGH_TO_JUDGE - 1


def test_counts_go_on_after_a_resume():
    log = BadSampleLog("pairs", 0.1, None)
    log.seen = ENOUGH_TO_JUDGE
    add(log, 20)
    resumed = BadSampleLog("pairs", 0.1, None)
    resumed.load_states([json.loads(json.dumps(log.state_dict()))])
    assert (resumed.seen, resumed.kinds, resumed.shards) == (log.seen, log.kinds, log.shards)
    with pytest.raises(ConfigError):
        add(resumed, 1)
