"""Ranks that talk to rank 0 over plain TCP, a JSON object a line, and nobody waits longer than until a deadline."""

import json
import selectors
import socket
import time
from collections.abc import Mapping
from typing import Any

from ..launch import Launch

RETRY_SECONDS = 0.1


class Unreachable(OSError):
    """Rank 0 did not answer in time."""


class Connection:
    """One end of a line to another rank."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket, self.received = connected, b""

    def send(self, message: Mapping[str, Any]) -> None:
        """Raises OSError where the other end is gone."""
        self.socket.settimeout(10.0)
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, deadline: float) -> dict[str, Any]:
        """The next message.

        Raises:
            OSError: none came until the deadline (of ``time.monotonic``), or the other end is gone.
        """
        while b"\n" not in self.received:
            self.read(max(0.01, deadline - time.monotonic()))
        line, _, self.received = self.received.partition(b"\n")
        return json.loads(line)

    def read(self, seconds: float) -> None:
        """Take in what comes within so many seconds."""
        self.socket.settimeout(seconds)
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionError("the other end is gone")
        self.received += part


class Hub:
    """Rank 0's side. Its own messages come from :meth:`gather`'s caller.

    Args:
        launch: of rank 0.
        port: to listen at.
    """

    def __init__(self, launch: Launch, port: int) -> None:
        self.world_size = launch.world_size
        self.connections: dict[int, Connection] = {}
        self.server = socket.create_server(("", port), backlog=launch.world_size) if launch.world_size > 1 else None

    def accept(self, deadline: float) -> dict[int, dict[str, Any]]:
        """Wait for all ranks and for what each says first; returned by rank, for those that came in time.

        Each is answered with this machine's time at once, by which it knows how far its own clock is off.
        """
        hellos: dict[int, dict[str, Any]] = {}
        if self.server is None:
            return hellos
        with selectors.DefaultSelector() as selector:
            selector.register(self.server, selectors.EVENT_READ)
            while len(hellos) < self.world_size - 1 and (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    if key.data is None:
                        connection = Connection(self.server.accept()[0])
                        selector.register(connection.socket, selectors.EVENT_READ, connection)
                    elif (hello := _take(key.data, selector)) is not None:
                        selector.unregister(key.data.socket)
                        key.data.send({"time": time.time()})
                        hellos[hello["rank"]] = hello
                        self.connections[hello["rank"]] = key.data
        return hellos

    def gather(self, deadline: float) -> dict[int, dict[str, Any]]:
        """One message of each rank that is connected, by rank, as far as they come in time."""
        messages: dict[int, dict[str, Any]] = {}
        with selectors.DefaultSelector() as selector:
            for rank, connection in self.connections.items():
                if b"\n" in connection.received:
                    messages[rank] = connection.receive(deadline)
                else:
                    selector.register(connection.socket, selectors.EVENT_READ, (rank, connection))
            while selector.get_map() and (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    rank, connection = key.data
                    if (message := _take(connection, selector)) is not None:
                        messages[rank] = message
                        selector.unregister(connection.socket)
        return messages

    def tell(self, message: Mapping[str, Any]) -> None:
        """The same to all; those that are gone do not hear it."""
        for connection in self.connections.values():
            try:
                connection.send(message)
            except OSError:
                continue


def connect(launch: Launch, port: int, deadline: float) -> Connection:
    """Another rank's line to rank 0.

    Raises:
        Unreachable: it was not there until the deadline.
    """
    while True:
        try:
            left = max(0.1, deadline - time.monotonic())
            return Connection(socket.create_connection((launch.master_address, port), timeout=left))
        except OSError as error:
            if time.monotonic() >= deadline:
                raise Unreachable(f"{launch.master_address}:{port} does not answer: {error}") from error
            time.sleep(RETRY_SECONDS)


def _take(connection: Connection, selector: selectors.BaseSelector) -> dict[str, Any] | None:
    """A message if it is whole by now; a line that broke is forgotten."""
    try:
        connection.read(1.0)
    except OSError:
        selector.unregister(connection.socket)
        return None
    return connection.receive(0.0) if b"\n" in connection.received else None
