import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flamingo_ds.launching.signals import END_SIGNALS, WARNING_SIGNALS, StopRequest

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def handlers():
    """As in a new process, whatever ran in this one before."""
    fresh = dict.fromkeys((*END_SIGNALS, *WARNING_SIGNALS), signal.SIG_DFL) | {
        signal.SIGINT: signal.default_int_handler
    }
    before = {number: signal.signal(number, handler) for number, handler in fresh.items()}
    yield fresh
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_first_signal_is_remembered():
    stop = StopRequest()
    stop.hear_warning()
    stop.listen()
    assert not stop.requested
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)
    assert stop.requested
    assert stop.signal == "SIGUSR1"


def test_before_training_only_the_warning_is_caught(handlers):
    stop = StopRequest()
    stop.hear_warning()
    assert {signal.getsignal(number) for number in WARNING_SIGNALS} == {stop._note}
    assert all(signal.getsignal(number) == handlers[number] for number in END_SIGNALS)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


# A library whose import takes as long as the test likes, so that a signal meets the process in the midst of its start.
SLOW_LIBRARY = """\
import sys, time
print("importing", flush=True)
sys.stdin.readline()
raise SystemExit(7)
"""


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGUSR1, 7, ""),
        (signal.SIGTERM, -signal.SIGTERM, ""),
        (signal.SIGINT, 130, "interrupted before training began\n"),
    ],
)
def test_a_signal_during_imports(tmp_path: Path, number: int, code: int, said: str) -> None:
    (tmp_path / "omegaconf.py").write_text(SLOW_LIBRARY)
    process = subprocess.Popen(
        [sys.executable, "-m", "flamingo_ds.train", "--recipe", "demo"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    output, _ = process.communicate("go on\n", timeout=60)
    assert (process.returncode, output) == (code, said)


LATE = """
import os, signal, sys
from flamingo_ds.launching.signals import StopRequest, ignore_signals

class Late:
    def __del__(self, kill=os.kill, process=os.getpid(), number=signal.{name}):
        kill(process, number)

stop, late = StopRequest(), Late()
stop.hear_warning()
stop.listen()
{last}
sys.exit(85)
"""


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM", "SIGINT"])
def test_a_signal_while_python_ends_does_not_change_the_exit_code(name):
    def code(last):
        program = LATE.format(name=name, last=last)
        return subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode

    assert code("ignore_signals()") == 85
    assert code("") == -getattr(signal, name)  # so it is needed
