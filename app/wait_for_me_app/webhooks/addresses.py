"""Which addresses a webhook may reach: public ones, in whatever disguise the others come. Pure.

The danger: 169.254.169.254 hands out a cloud machine's credentials, and it can be written ::ffff:169.254.169.254,
64:ff9b::a9fe:a9fe or 2002:a9fe:a9fe::. An address that carries an IPv4 address inside is judged by that; of IPv6, only
what is allotted as global unicast and is no tunnel counts as public.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")
# Reserved for protocols, tunnels and documents; Python's own table calls some of them global, depending on its version.
_SPECIAL_V6: Final = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_SPECIAL_V4: Final = tuple(map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24")))
_V4_BITS: Final = 0xFFFFFFFF


def is_public(address: str) -> bool:
    """Return whether a numeric address is one that anybody on the internet could reach.

    >>> is_public("93.184.216.34"), is_public("::ffff:127.0.0.1")
    (True, False)
    """
    try:
        judged = _unwrap(ip_address(address))
    except ValueError:
        return False
    if isinstance(judged, IPv6Address):
        fits = judged in _GLOBAL_UNICAST and not any(judged in network for network in _SPECIAL_V6)
    else:
        fits = not any(judged in network for network in _SPECIAL_V4)
    return fits and judged.is_global and not (judged.is_multicast or judged.is_reserved or judged.is_private)


def is_numeric(host: str) -> bool:
    """Return whether a host is an address, or is taken for one: `127.1` and `2130706433` are 127.0.0.1 to many."""
    last = host.rstrip(".").rpartition(".")[2]
    return ":" in host or last.isdecimal() or last.lower().startswith("0x")


def _unwrap(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & _V4_BITS) if address in _NAT64 else address
