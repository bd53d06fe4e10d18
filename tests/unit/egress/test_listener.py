"""Check that sockets listen on both address families, or on IPv4 alone if the kernel has no IPv6."""

import errno
import socket

import pytest

from pywharf import listener
from pywharf.config.settings import ServerSettings
from pywharf.core.addresses import plain, site
from pywharf.listener import listen, url_host


def test_the_default_is_both_families():
    assert ServerSettings(root="r").host == listener.ANY
    with listen(listener.ANY, 0) as opened:
        assert opened.family == socket.AF_INET6
        assert opened.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, opened.getsockname()[1])).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "localhost"])  # noqa: S104 - of this machine
def test_one_address_is_that_alone(host):
    with listen(host, 0) as opened:
        assert opened.family == (socket.AF_INET6 if ":" in host else socket.AF_INET)


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, None])
def test_a_kernel_without_ipv6_listens_on_ipv4(monkeypatch, number):
    create = socket.create_server

    def refuse(address, *, family, **others):
        if family == socket.AF_INET6:
            raise ValueError if number is None else OSError(number, "no IPv6")
        return create(address, family=family, **others)

    monkeypatch.setattr(socket, "create_server", refuse)
    with listen(listener.ANY, 0) as opened:
        assert opened.getsockname()[0] == "0.0.0.0"  # noqa: S104 - of a kernel without IPv6


def test_a_port_that_is_taken_is_an_error():
    with listen(listener.ANY, 0) as opened, pytest.raises(OSError, match="in use"):
        listen(listener.ANY, opened.getsockname()[1])


@pytest.mark.parametrize(("address", "shown"), [("::1", "[::1]"), ("10.0.0.1", "10.0.0.1"), ("localhost", "localhost")])
def test_an_address_in_a_url(address, shown):
    assert url_host(address) == shown


@pytest.mark.parametrize(
    ("address", "shown", "client"),
    [
        ("10.0.0.1", "10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.1"),
        ("::1", "::1", "::/64"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::1%eth0", "fe80::/64"),
        ("", "", ""),
        ("not an address", "not an address", "not an address"),
    ],
)
def test_who_a_client_is(address, shown, client):
    assert (plain(address), site(address)) == (shown, client)
