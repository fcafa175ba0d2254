"""Where a shard's bytes come from: a file, an http(s) address, or the output of a command (``pipe:COMMAND``).

What gives nothing for ``stall_s`` seconds has stalled, and that is an ``OSError`` like any other broken connection.
"""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import IO, Protocol, cast

from ..config import ConfigError

PIPE = "pipe:"
WEB = ("http://", "https://")


class ByteSource(Protocol):
    """All that tarfile's stream mode asks for."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


def is_remote(shard: str) -> bool:
    """Whether it comes over a connection that may break, so that a truncated shard may be whole the next time."""
    return shard.startswith((PIPE, *WEB))


def check_address(key: str, shard: str) -> None:
    """Refuse schemes that are not read here.

    Raises:
        ConfigError: such as s3://.
    """
    if re.match(r"[a-z][a-z0-9+.-]*://", shard) and not shard.startswith(WEB):
        scheme = shard.partition("://")[0]
        raise ConfigError(key, shard, f"a path, http(s)://, or pipe:COMMAND with the command that reads {scheme}://")


@contextlib.contextmanager
def open_shard(shard: str, stall_s: float) -> Iterator[ByteSource]:
    """The bytes of a shard, from its beginning.

    Raises:
        OSError: it is not there, or stalls, or its command fails; also while it is read.
    """
    if shard.startswith(PIPE):
        pipe = _Pipe(shard.removeprefix(PIPE), stall_s)
        try:
            yield pipe
        finally:
            pipe.close()
    elif shard.startswith(WEB):
        # A socket's timeout is of each wait for bytes, not of the whole.
        with urllib.request.urlopen(shard, timeout=stall_s) as answer:  # noqa: S310  the scheme is checked above
            yield answer
    else:
        with open(shard, "rb") as file:
            yield file


class _Pipe:
    """A shell command's output.

    Args:
        command: run by ``sh`` in a process group of its own, so that all its parts end together.
        stall_s: seconds to wait for the next bytes.
    """

    def __init__(self, command: str, stall_s: float) -> None:
        self.command, self.stall_s = command, stall_s
        self.process = subprocess.Popen(  # noqa: S602  a shell command is what the recipe names
            command, shell=True, stdout=subprocess.PIPE, start_new_session=True
        )
        self.output = cast(IO[bytes], self.process.stdout)
        self.ready = selectors.DefaultSelector()
        self.ready.register(self.output, selectors.EVENT_READ)

    def read(self, size: int, /) -> bytes:
        """What is there, up to ``size`` bytes, or what comes next."""
        if not self.ready.select(self.stall_s):
            raise TimeoutError(f"no byte for {self.stall_s:g} s from: {self.command}")
        content = os.read(self.output.fileno(), size)
        if not content:
            self._require_success()
        return content

    def _require_success(self) -> None:
        try:
            code = self.process.wait(self.stall_s)
        except subprocess.TimeoutExpired:
            return  # it has closed its output and does something else; what it gave speaks for itself
        if code:
            raise OSError(f"exit code {code} from: {self.command}")

    def close(self) -> None:
        """End the command, which may be waiting for someone to read on."""
        self.ready.close()
        self.output.close()
        if self.process.returncode is None:  # else its number may be another's by now
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
