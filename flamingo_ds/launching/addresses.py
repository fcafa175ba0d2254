"""Addresses at which other nodes reach one; Debian maps a machine's own name to 127.0.1.1, which none of them does."""

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Callable, Sequence

from ..errors import ConfigError

Resolve = Callable[[str], str]
_SIOCGIFADDR = 0x8915
# Of a network for documentation (RFC 5737): no packet is sent to it, the system only chooses its way out.
_ANYWHERE = "192.0.2.1"


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches it; ``address`` may be a name."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost" or address.startswith("localhost.")


def resolve(name: str) -> str:
    """Its address, IPv4 where there is one.

    Raises:
        OSError: the name is not known.
    """
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return str(found[0][4][0])


def own_address(peers: Sequence[str] = ()) -> str:
    """By which this machine speaks to its peers: its side of the way to the first one that is known."""
    for peer in (*peers, _ANYWHERE):
        try:
            address = resolve(peer)
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((address, 9))
                own = str(probe.getsockname()[0])
        except OSError:
            continue
        if not is_loopback(own):
            return own
    raise ConfigError("network", ", ".join(peers), "an interface besides the loopback one, to reach other nodes")


def address_of(name: str, own_name: str, peers: Sequence[str], ask: Resolve = resolve) -> str:
    """At which all nodes reach the node ``name``.

    Args:
        name: of the node.
        own_name: of the node that this process runs on; if they are the same, the network knows better than the name.
        peers: other nodes.
        ask: from a name to an address.

    Raises:
        ConfigError: the name is not known, or this node knows it by a loopback address.
    """
    try:
        address = ask(name)
    except OSError as error:
        address, problem = None, f"a node whose name {own_name} can resolve ({error.strerror})"
    else:
        problem = f"an address that {own_name} reaches; it resolves to {address} there"
    if address is not None and not is_loopback(address):
        return address
    if name != own_name:
        raise ConfigError("MASTER_ADDR", name, problem)
    return own_address(peers)


def interface_with(address: str) -> str | None:
    """The interface of this machine that has an IPv4 address, such as ``eth0``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:  # no IPv4 address
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None


def gloo_interface(master_address: str, ask: Resolve = resolve) -> str | None:
    """The interface that gloo must be told of, where it would take the loopback one; None where it would not.

    It takes the address of the machine's own name.
    """
    try:
        if not is_loopback(ask(socket.gethostname())):
            return None
    except OSError:
        pass
    return interface_with(own_address([master_address]))
