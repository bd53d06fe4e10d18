"""Check where a redirect of another index may lead."""

import socket

import aiohttp
import pytest
from yarl import URL

from pywharf.core.addresses import Reach
from pywharf.core.errors import UpstreamError
from pywharf.egress.policy import Egress
from pywharf.egress.resolver import Names
from pywharf.egress.upstream_addresses import redirected

# The configured URL, the URL that redirects, its Location, the target ("": refused; None: the Location itself)
REDIRECTS = [
    ("https://a.example/simple/", "https://a.example/simple/x/", "../y/", "https://a.example/simple/y/"),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://b.example/x/", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://pypi.org/x/", "https://pypi.org/x/"),
    ("http://a.example/simple/", "http://a.example/simple/x/", "https://a.example/simple/x/", None),
    ("https://a.example/simple/", "https://a.example/simple/x/", "http://a.example/simple/x/", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "//a.example/y/", "https://a.example/y/"),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://10.0.0.1/x/", ""),
    ("https://10.0.0.1/simple/", "https://10.0.0.1/simple/x/", "https://10.0.0.1/x/", "https://10.0.0.1/x/"),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://a.example:8443/x/", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://[fd00:ec2::254]/", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://2852039166/", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://user@b.example/x/", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://:secret@b.example/x/", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "file:///etc/passwd", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "ftp://b.example/", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "javascript:alert(1)", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://127.0.0.1/", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://127.1.2.3:8443/", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://0.0.0.0/", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://169.254.169.254/latest/", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://[::1]/", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://[fe80::1]/", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://[::ffff:127.0.0.1]/", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://localhost/", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://LOCALHOST/", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://x.localhost/", ""),
    (
        "http://127.0.0.1:8080/simple/",
        "http://127.0.0.1:8080/simple/x/",
        "/simple/y/",
        "http://127.0.0.1:8080/simple/y/",
    ),
    ("http://127.0.0.1:8080/simple/", "http://127.0.0.1:8080/simple/x/", "http://127.0.0.1:22/", ""),
    ("http://127.0.0.1:8080/simple/", "http://127.0.0.1:8080/simple/x/", "http://127.0.0.2:8080/", ""),
    ("http://127.0.0.1:8080/simple/", "http://b.example/x/", "http://127.0.0.1:8080/y/", "http://127.0.0.1:8080/y/"),
]


@pytest.mark.parametrize(("configured", "here", "location", "leads"), REDIRECTS)
def test_redirects(configured, here, location, leads):
    if leads == "":
        with pytest.raises(UpstreamError, match="redirects to an address that"):
            redirected(URL(here), location, configured=URL(configured), egress=Egress())
    else:
        found = redirected(URL(here), location, configured=URL(configured), egress=Egress())
        assert str(found) == (location if leads is None else leads)


LISTED = Egress(("a.example", "b.example", "*.c.example:8443"))


@pytest.mark.parametrize(
    ("location", "leads"),
    [
        ("https://b.example/x/", True),
        ("https://x.c.example:8443/", True),
        ("https://x.c.example/", False),
        ("https://pypi.org/x/", False),
        ("https://10.0.0.1/", False),
    ],
)
def test_redirects_with_a_list(location, leads):
    where = URL("https://a.example/simple/")
    if leads:
        assert str(redirected(where, location, configured=where, egress=LISTED)) == location
    else:
        with pytest.raises(UpstreamError, match="is not among the allowed endpoints; have its host added there"):
            redirected(where, location, configured=where, egress=LISTED)


async def test_a_name_of_this_machine_is_refused_where_it_is_resolved():
    names, any_names = Names(Reach.PRIVATE), Names(Reach.OWN)
    try:
        assert {found["port"] for found in await any_names.resolve("localhost", 80)} == {80}
        with pytest.raises(OSError, match="this machine"):
            await names.resolve("localhost", 80)
    finally:
        await names.close()
        await any_names.close()


@pytest.mark.parametrize(("address", "private", "public"), [("10.1.2.3", True, False), ("8.8.8.8", True, True)])
async def test_a_name_is_checked_by_what_it_resolves_to(monkeypatch, address, private, public):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))]
    monkeypatch.setattr("pywharf.egress.resolver.socket.getaddrinfo", lambda *_, **__: found)
    for reach, is_usable in ((Reach.PRIVATE, private), (Reach.GLOBAL, public)):
        names = Names(reach)
        try:
            if is_usable:
                assert [one["host"] for one in await names.resolve("a.example", 80)] == [address]
            else:
                with pytest.raises(OSError, match="private network; list the host"):
                    await names.resolve("a.example", 80)
        finally:
            await names.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "2130706433", "127.1"])
async def test_an_address_that_is_no_name_is_checked_where_the_connection_is_made(address):
    """The HTTP client does not resolve literal addresses, and it takes some other texts for literal, too."""
    names = Names(Reach.PRIVATE)
    connector = aiohttp.TCPConnector(resolver=names, socket_factory=names.socket)
    async with aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://{address}:9/")
