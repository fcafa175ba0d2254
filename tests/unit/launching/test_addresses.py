import socket

import pytest

from flamingo_ds.config import ConfigError
from flamingo_ds.launching import addresses
from flamingo_ds.launching.addresses import address_of, gloo_interface, interface_with, is_loopback, own_address


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1", True), ("127.0.1.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("n1", False)],
)
def test_loopback(address, expected):
    assert is_loopback(address) is expected


def test_the_address_of_another_node_is_what_its_name_says():
    assert address_of("n1", "n2", [], {"n1": "10.0.0.1"}.get) == "10.0.0.1"


def test_a_node_that_does_not_know_itself_asks_the_network(monkeypatch):
    monkeypatch.setattr(addresses, "own_address", lambda peers: f"towards {peers[0]}")

    def unknown(name: str) -> str:
        raise socket.gaierror(-2, "Name or service not known")

    assert address_of("n1", "n1", ["n2"], unknown) == "towards n2"
    assert address_of("n1", "n1", ["n2"], {"n1": "127.0.1.1"}.get) == "towards n2"


def test_an_own_address_is_one_that_leads_out(monkeypatch):
    """Of this machine: as it reaches anything at all, if it does."""
    try:
        own = own_address(["no-such-node.invalid"])
    except ConfigError as error:
        assert "an interface besides the loopback one" in str(error)
        return
    assert not is_loopback(own)
    name = interface_with(own)
    assert name in [name for _, name in socket.if_nameindex()]
    assert gloo_interface("192.0.2.1", lambda name: "127.0.1.1") == name


def test_no_way_out_is_said(monkeypatch):
    monkeypatch.setattr(addresses, "resolve", lambda name: "127.0.0.1")
    with pytest.raises(ConfigError, match="network = 'n2, n3': expected an interface besides the loopback one"):
        own_address(["n2", "n3"])


def test_the_loopback_interface_is_found_by_its_address():
    assert interface_with("127.0.0.1") == "lo"
    assert interface_with("192.0.2.77") is None


def test_gloo_needs_no_help_where_the_own_name_is_known_outside():
    assert gloo_interface("10.0.0.1", lambda name: "10.0.0.2") is None
