"""Shards by address and by command: broken and stalled connections are opened again, then given up and counted."""

import http.server
import shlex
import threading
import time
from functools import partial

import pytest

from flamingo_ds.config import ConfigError
from flamingo_ds.data.shards import Patience, expand_shards, read_shard

from .making import pair, picture, write_shards, write_tar


class Breaking(http.server.BaseHTTPRequestHandler):
    """Gives a file, after ``server.failures`` answers of the kind ``server.failure``."""

    def do_GET(self):
        content = (self.server.folder / self.path.lstrip("/")).read_bytes()
        self.server.asked += 1
        failing = self.server.asked <= self.server.failures
        if failing and self.server.failure == "refused":
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not failing:
            self.wfile.write(content)
            return
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        if self.server.failure == "stalled":
            self.server.over.wait(20)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Breaking) as server:
        server.folder, server.asked, server.failures, server.failure = tmp_path, 0, 0, ""
        server.over = threading.Event()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.address = f"http://127.0.0.1:{server.server_port}"
        yield server
        server.over.set()
        server.shutdown()


def read(shard, **patience):
    errors = []
    samples = list(
        read_shard(shard, Patience(**{"retries": 2, "wait_s": 0.01, "stall_s": 1.0, **patience}), errors.append)
    )
    return [sample.key for sample in samples], [error.kind for error in errors]


KEYS = [f"{number:03}" for number in range(12)]


@pytest.mark.parametrize("failure", ["refused", "broken", "stalled"])
@pytest.mark.parametrize("failures", [0, 1, 2])
def test_an_address_that_comes_back_gives_each_sample_once(server, tmp_path, failure, failures):
    write_shards(tmp_path, [12])
    server.failure, server.failures = failure, failures
    assert read(f"{server.address}/pairs-000.tar", stall_s=0.3) == (KEYS, [])
    assert server.asked == failures + 1


@pytest.mark.parametrize(
    ("failure", "kind"), [("refused", "missing_shard"), ("broken", "broken_tar"), ("stalled", "missing_shard")]
)
def test_an_address_that_does_not_come_back_is_given_up(server, tmp_path, failure, kind):
    write_shards(tmp_path, [12])
    server.failure, server.failures = failure, 99
    keys, kinds = read(f"{server.address}/pairs-000.tar", stall_s=0.3)
    assert keys == KEYS[: len(keys)] != KEYS
    assert kinds == [kind]
    assert server.asked == 3


def test_waits_grow(server, tmp_path):
    write_shards(tmp_path, [1])
    server.failure, server.failures = "refused", 99
    began = time.monotonic()
    read(f"{server.address}/pairs-000.tar", retries=3, wait_s=0.1)
    assert 0.7 <= time.monotonic() - began < 3


def test_a_command_is_read_and_ended(tmp_path):
    (shard,) = write_shards(tmp_path, [12])
    assert read(f"pipe:cat {shlex.quote(shard)}") == (KEYS, [])
    # One that would go on for ever behind the end of its archive is not waited for.
    began = time.monotonic()
    assert read(f"pipe:cat {shlex.quote(shard)}; sleep 60") == (KEYS, [])
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("exit 3", "missing_shard"),
        ("head -c 4000 {}; exit 3", "missing_shard"),
        ("head -c 4000 {}; sleep 60", "missing_shard"),
        ("head -c 4096 {}", "broken_tar"),
    ],
)
def test_a_command_that_fails_is_given_up(tmp_path, command, kind):
    (shard,) = write_shards(tmp_path, [12])
    keys, kinds = read("pipe:" + command.format(shlex.quote(shard)), stall_s=0.3)
    assert keys == KEYS[: len(keys)] != KEYS
    assert kinds == [kind]


def test_a_vanished_file_is_waited_for(tmp_path):
    (shard,) = write_shards(tmp_path, [12])
    content = (tmp_path / "pairs-000.tar").read_bytes()
    (tmp_path / "pairs-000.tar").unlink()
    assert read(shard) == ([], ["missing_shard"])
    back = threading.Timer(0.1, partial((tmp_path / "pairs-000.tar").write_bytes, content))
    back.start()
    assert read(shard, wait_s=0.2) == (KEYS, [])


def test_a_truncated_file_is_not_opened_twice(tmp_path):
    (shard,) = write_shards(tmp_path, [12])
    content = (tmp_path / "pairs-000.tar").read_bytes()
    (tmp_path / "pairs-000.tar").write_bytes(content[:5000])
    began = time.monotonic()
    assert read(shard, wait_s=5.0)[1] == ["broken_tar"]
    assert time.monotonic() - began < 3


def test_addresses_and_commands_count_up_too():
    assert expand_shards("key", "https://x.org/a-{00..02}.tar") == [f"https://x.org/a-0{n}.tar" for n in range(3)]
    assert expand_shards("key", "pipe:cat {a,b}.tar") == ["pipe:cat a.tar", "pipe:cat b.tar"]


def test_a_folder_stands_for_its_tars(tmp_path):
    paths = write_shards(tmp_path, [1, 1])
    (tmp_path / "index.json").write_text("{}")
    assert expand_shards("key", str(tmp_path)) == paths


def test_an_unknown_scheme_is_refused_with_a_way_out():
    with pytest.raises(ConfigError) as caught:
        expand_shards("data.datasets.x.shards", "s3://bucket/a.tar")
    assert str(caught.value) == (
        "data.datasets.x.shards = 's3://bucket/a.tar': expected a path, http(s)://, or pipe:COMMAND with the command "
        "that reads s3://"
    )


@pytest.mark.parametrize("name", ["../001.png", "/etc/001.png", "a/../../001.png"])
def test_members_that_climb_are_refused(tmp_path, name):
    path = write_tar(tmp_path / "a.tar", [*pair("000"), (name, picture(1)), ("001.txt", b"a"), *pair("002")])
    samples = list(read_shard(str(path), Patience(), lambda error: None))
    assert [(sample.key, sample.bad and sample.bad.kind) for sample in samples] == [
        ("000", None),
        (name.removesuffix(".png"), "climbing_path"),
        ("001", None),
        ("002", None),
    ]


def test_a_member_that_claims_to_be_huge_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("flamingo_ds.data.shards.LARGEST_MEMBER", 100)
    path = write_tar(tmp_path / "a.tar", [("0.txt", b"a" * 101), ("1.txt", b"a")])
    first, second = read_shard(str(path), Patience(), lambda error: None)
    assert (first.key, first.bad.kind, first.members, second.bad) == ("0", "too_large_member", {}, None)
