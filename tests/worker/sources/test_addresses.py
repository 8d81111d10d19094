import socket
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.errors import InvalidSource
from worker.errors import SourceForbidden, SourceUnavailable
from worker.sources.addresses import may_connect, resolve

ADDRESSES_V4 = st.ip_addresses(v=4)
ADDRESSES = st.one_of(ADDRESSES_V4, st.ip_addresses(v=6))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450::5"])
def test_public_addresses_may_be_connected_to(address: str):
    assert may_connect(ip_address(address), ())


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.31.0.1", "192.168.1.1"),
        *("192.0.0.192", "192.88.99.1", "198.18.0.1", "203.0.113.9", "224.0.0.1", "240.0.0.1"),
        *("255.255.255.255", "100.100.100.200", "168.63.129.16"),
        *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "fe80::1", "fec0::1", "fd00::1"),
        *("fd00:ec2::254", "ff02::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1", "4000::1"),
        *("64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:7f00:1::"),
        *("fe80::1%1", "2001:10::1", "2001:20::1"),
    ],
)
def test_other_addresses_may_not(address: str):
    assert not may_connect(ip_address(address), ())


@settings(max_examples=50, deadline=None)
@given(ADDRESSES)
def test_what_python_calls_not_global_never_may(address: IPv4Address | IPv6Address):
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert not may_connect(address, ())


@settings(max_examples=50, deadline=None)
@given(ADDRESSES_V4, st.sampled_from(["::ffff:", "::", "64:ff9b::"]))
def test_no_wrapped_address_may_be_connected_to_whatever_is_inside(inner: IPv4Address, wrapping: str):
    assert not may_connect(ip_address(f"{wrapping}{inner}"), ())
    assert not may_connect(IPv6Address(0x2002 << 112 | int(inner) << 80), ())
    assert not may_connect(IPv6Address(0x20010000 << 96 | int(inner) << 64), ())


@settings(max_examples=50, deadline=None)
@given(ADDRESSES, ADDRESSES, st.integers(0, 32))
def test_the_operators_networks_add_just_what_is_in_them(
    address: IPv4Address | IPv6Address, base: IPv4Address | IPv6Address, length: int
):
    network = ip_network(f"{base}/{length}", strict=False)
    inside = address.version == network.version and address in network
    assert may_connect(address, (network,)) == (may_connect(address, ()) or inside)


@pytest.mark.parametrize("name", ["2130706433", "0x7f.1", "0x7f000001", "017700000001", "127.1", "①②⑦.⓪.⓪.①"])
@pytest.mark.skipif(sys.platform != "linux", reason="other resolvers know fewer spellings")
def test_a_number_in_any_spelling_is_the_address_it_leads_to(name: str):
    with pytest.raises(SourceForbidden, match="VIDEOMIND_ALLOWED_NETWORKS"):
        resolve(name, 80, ())
    assert resolve(name, 80, (ip_network("127.0.0.1/32"),)) == ("127.0.0.1",)


def test_of_a_host_with_several_addresses_the_permitted_ones_are_left(monkeypatch: pytest.MonkeyPatch):
    found = ["10.0.0.1", "8.8.8.8", "127.0.0.1", "8.8.8.8", "8.8.4.4"]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", (it, 80)) for it in found])
    assert resolve("host.test", 80, ()) == ("8.8.8.8", "8.8.4.4")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", (it, 80)) for it in found[:1]])
    with pytest.raises(SourceForbidden, match=r"host\.test"):
        resolve("host.test", 80, ())


def test_a_name_nobody_knows_may_be_known_later_and_one_that_cannot_be_will_not(
    monkeypatch: pytest.MonkeyPatch,
):
    with pytest.raises(InvalidSource, match="check the URL"):
        resolve("a" * 64 + ".test", 80, ())

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(SourceUnavailable, match=r"host\.test: Name or service"):
        resolve("host.test", 80, ())
