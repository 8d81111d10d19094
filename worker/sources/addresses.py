"""Which addresses may be connected to, so that nobody reaches the operator's own network through a URL.

The check is on addresses and never on names: a name may be spelled in many ways (`2130706433`, `0x7f.1`
and circled digits are all 127.0.0.1), and may lead elsewhere the next time it is looked up. So whoever
connects must connect to an address that `resolve` returned, and not look the name up again.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from vm.errors import InvalidSource
from worker.errors import SourceForbidden, SourceUnavailable
from worker.sources.rules import Network

# Written out, because what `ipaddress` calls global changes with the Python version: 3.11 lets multicast
# and most of the ways to wrap an IPv4 address in an IPv6 one pass.
_NOT_PUBLIC_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # behind a provider's address translation
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # public by its number, but it is the host of an Azure machine
        "169.254.0.0/16",  # link-local, and the metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments, and the metadata of one cloud
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays into 6to4
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
# All of IPv6's public addresses are in here. Outside are loopback, unspecified, IPv4-mapped and
# IPv4-compatible (::/96), NAT64 (64:ff9b::/96 and 64:ff9b:1::/48), discard (100::/64), unique local
# (fc00::/7), link-local (fe80::/10), site-local (fec0::/10) and multicast (ff00::/8).
_UNICAST_V6 = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments; in it Teredo, which wraps IPv4, and ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which wraps IPv4
        "3fff::/20",  # documentation
    )
)


def may_connect(address: IPv4Address | IPv6Address, allowed: Sequence[Network]) -> bool:
    """Whether the address is public, or in one of the networks the operator allows."""
    return _is_public(address) or any(address in network for network in allowed)


def resolve(host: str, port: int, allowed: Sequence[Network]) -> tuple[str, ...]:
    """The addresses of a host that may be connected to, the resolver's favourite first.

    A host with both kinds of addresses keeps the permitted ones: where IPv6-only networks wrap every
    IPv4 address, refusing the host would refuse all hosts.

    Raises:
        SourceForbidden: the host has addresses, and none of them may be connected to.
        SourceUnavailable: the name cannot be looked up just now, or does not exist.
        InvalidSource: no host can have this name.
    """
    found = _look_up(host, port)
    permitted = tuple(address for address in found if may_connect(ip_address(address), allowed))
    if not permitted:
        raise SourceForbidden(
            f"{host} has no public address: give a public one, "
            "or have the operator name its network in VIDEOMIND_ALLOWED_NETWORKS"
        )
    return permitted


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    return address in _UNICAST_V6 and not any(address in network for network in _NOT_PUBLIC_V6)


def _look_up(host: str, port: int) -> tuple[str, ...]:
    """All the host's addresses. How long this may take is for the system's resolver to say."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise SourceUnavailable(f"cannot find {host}: {error.strerror}. Check the name") from error
    except (OSError, ValueError, OverflowError) as error:
        raise InvalidSource(f"{host!a} is not the name of a host: check the URL") from error
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))
