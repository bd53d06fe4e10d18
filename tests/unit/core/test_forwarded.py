"""Check whose address a request counts for, behind proxies and with hostile headers."""

import pytest

from pywharf.core.forwarded import TrustedProxies, parse_networks

PROXIES = TrustedProxies(parse_networks("10.0.0.0/8, 192.0.2.7,2001:db8:1::/48", "--trusted_proxies"))


@pytest.mark.parametrize(
    ("peer", "header", "client"),
    [
        # A peer that is no proxy is the client, whatever it says.
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("::ffff:203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("", "198.51.100.1", ""),
        # One proxy, and several
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("192.0.2.7", "198.51.100.1, 10.9.9.9", "198.51.100.1"),
        ("2001:db8:1::5", "2001:db8:2::6", "2001:db8:2::6"),
        ("10.0.0.1", "198.51.100.1,10.0.0.3,10.0.0.2", "198.51.100.1"),
        # What stands before the first address that is no proxy's, the client has invented.
        ("10.0.0.1", "10.0.0.5, 8.8.8.8, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("192.0.2.8", "10.0.0.1, 10.0.0.1", "192.0.2.8"),
        # Every hop is a proxy: the first one is the client, for example a pod that shares their network.
        ("10.0.0.1", "10.0.0.9, 10.0.0.2", "10.0.0.9"),
        # Ports, brackets, spaces, spellings
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8:2::6]:4711", "2001:db8:2::6"),
        ("10.0.0.1", "[2001:DB8:2::0:6]", "2001:db8:2::6"),
        ("10.0.0.1", " \t 198.51.100.1 \t", "198.51.100.1"),
        ("10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, ::ffff:10.0.0.2", "198.51.100.1"),
        # What is no address ends the search; the proxy that reported it counts.
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1,", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, , 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "198.51.100.1, _hidden, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "for=198.51.100.1", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:port", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:123456", "10.0.0.1"),
        ("10.0.0.1", "[2001:db8:2::6", "10.0.0.1"),
        ("10.0.0.1", "[2001:db8:2::6]x", "10.0.0.1"),
        ("10.0.0.1", "127.1", "10.0.0.1"),
        ("10.0.0.1", "0x7f000001", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.01", "10.0.0.1"),
        ("10.0.0.1", "١٩٨.51.100.1", "10.0.0.1"),
        ("10.0.0.1", "<script>", "10.0.0.1"),
        ("10.0.0.1", "a" * 65_536, "10.0.0.1"),
        ("10.0.0.1", "8.8.8.8," * 8_000 + "198.51.100.1", "198.51.100.1"),
        # Past so many proxies in a row nobody looks further.
        ("10.0.0.1", "198.51.100.1" + ", 10.0.0.2" * 31, "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1" + ", 10.0.0.2" * 32, "10.0.0.2"),
    ],
)
def test_the_client_s_address(peer, header, client):
    assert PROXIES.client_of(peer, header) == client


def test_a_zone_does_not_make_an_address_another():
    proxies = TrustedProxies(parse_networks("fe80::/10", "x"))
    assert proxies.client_of("fe80::1%eth0", "198.51.100.1") == "198.51.100.1"
    assert PROXIES.client_of("10.0.0.1", "2001:db8:2::1%eth0") == "2001:db8:2::1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (" , ", "empty"),
        ("10.0.0.0/8 10.1.0.0/16", "no network"),
        ("10.0.0.1/8", "host bits"),
        ("10.0.0.0/33", "no network"),
        ("proxy.example.com", "no network"),
        ("*", "no network"),
        ("0.0.0.0/0", "every address"),
        ("10.0.0.0/8,::/0", "every address"),
        ("::ffff:10.0.0.0/104", "IPv4 form"),
        (",".join(f"10.0.{n}.0/24" for n in range(65)), "at most 64"),
    ],
)
def test_what_is_no_list_of_networks(text, words):
    with pytest.raises(ValueError, match=words) as raised:
        parse_networks(text, "--trusted_proxies")
    assert str(raised.value).startswith("--trusted_proxies")


def test_nobody_is_trusted_without_networks():
    assert TrustedProxies().client_of("10.0.0.1", "198.51.100.1") == "10.0.0.1"
    assert not TrustedProxies().trusts("10.0.0.1")
