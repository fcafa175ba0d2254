"""Processes in place of the one with torch, which behave in every way that it may."""

import os
import sys
import time

import pytest

from flamingo_ds.launching.preflight.probe import Probe

GOOD = """
import json, sys
print("a library says hello")
print(json.dumps({"gpus": 2, "phase": "waiting"}), flush=True)
place = json.loads(sys.stdin.readline())
print(json.dumps({"phase": "joining"}))
print(json.dumps({"phase": "done", "node_seconds": 1.0, "all_seconds": 2.0, "megabytes": place["rank"]}), flush=True)
"""
NO_TORCH = "raise ImportError('libcudart.so: no such file')"
HANGS = "import time; time.sleep(600)"
DIES = """
import json, os, signal, sys
print(json.dumps({"gpus": 2, "phase": "waiting"}), flush=True)
sys.stdin.readline()
print(json.dumps({"phase": "joining"}), flush=True)
os.kill(os.getpid(), signal.SIGSEGV)
"""


@pytest.fixture
def start():
    probes = []

    def make(code: str) -> Probe:
        probes.append(Probe(os.environ, [sys.executable, "-c", code]))
        return probes[-1]

    yield make
    for probe in probes:
        probe.end()


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


def test_what_it_says_comes_through(start):
    probe = start(GOOD)
    assert probe.versions(soon())["gpus"] == 2
    expected = {"phase": "done", "node_seconds": 1.0, "all_seconds": 2.0, "megabytes": 7}
    assert probe.reduce({"rank": 7}, soon()) == expected


def test_an_import_that_fails_is_told_in_its_last_line(start):
    problem = {"problem": "ImportError: libcudart.so: no such file (exit code 1, importing torch)"}
    assert start(NO_TORCH).versions(soon()) == problem


def test_a_process_that_hangs_is_not_waited_for(start):
    began = time.monotonic()
    assert start(HANGS).versions(soon(0.3)) == {"problem": "still importing torch when the time was over"}
    assert time.monotonic() - began < 5


def test_a_process_that_dies_on_the_way(start):
    probe = start(DIES)
    probe.versions(soon())
    assert probe.reduce({}, soon()) == {"problem": "it said nothing (exit code -11, joining)", "phase": "joining"}


def test_a_process_that_is_gone_already(start):
    probe = start("import sys; print('{\"gpus\": 0}')")
    probe.versions(soon())
    time.sleep(0.3)
    assert "problem" in probe.reduce({}, soon())
