"""Which addresses a webhook may reach: every disguise of a private one is seen through."""

from __future__ import annotations

import pytest

from wait_for_me_app.webhooks.addresses import is_numeric, is_public


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_public_addresses_may_be_reached(address: str) -> None:
    """Also a public IPv4 address that is carried in IPv6, as on networks without IPv4."""
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2001:0:7f00:1::1",
        "2001:db8::1",
        "3fff::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "100::1",
        "no address",
        "127.1",
        "2130706433",
        "",
    ],
)
def test_all_others_may_not(address: str) -> None:
    """Loopback, private, link-local, metadata, shared, reserved, multicast; plain, mapped, translated and tunnelled."""
    assert not is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "0x7f000001", "::1", "1.2.3.4.", "a.1"])
def test_hosts_that_some_resolver_takes_for_an_address_count_as_one(host: str) -> None:
    """So they must be a public address, spelt in full."""
    assert is_numeric(host)


@pytest.mark.parametrize("host", ["hooks.example.com", "localhost", "1and1.example", "x0x1.example", "0x.example"])
def test_names_are_no_addresses(host: str) -> None:
    """A label of digits before the last one is legal in a name."""
    assert not is_numeric(host)
