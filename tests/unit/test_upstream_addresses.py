"""Where a redirect of another index may lead."""

import pytest
from yarl import URL

from pywharf.core.addresses import is_elsewhere, is_own
from pywharf.core.errors import UpstreamError
from pywharf.resolver import Names
from pywharf.web.upstream_addresses import redirected

# Where the index is configured, where the redirect comes from, its Location, where it leads (None: nowhere)
REDIRECTS = [
    ("https://a.example/simple/", "https://a.example/simple/x/", "../y/", "https://a.example/simple/y/"),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://b.example/x/", "https://b.example/x/"),
    ("http://a.example/simple/", "http://a.example/simple/x/", "https://a.example/simple/x/", None),
    ("https://a.example/simple/", "https://a.example/simple/x/", "http://a.example/simple/x/", ""),
    ("https://a.example/simple/", "https://a.example/simple/x/", "//b.example/x/", "https://b.example/x/"),
    ("https://a.example/simple/", "https://a.example/simple/x/", "https://10.0.0.1/x/", "https://10.0.0.1/x/"),
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
            redirected(URL(here), location, configured=URL(configured))
    else:
        found = redirected(URL(here), location, configured=URL(configured))
        assert str(found) == (location if leads is None else leads)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("192.0.2.1", True),
        ("10.1.2.3", True),
        ("2001:db8::1", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("169.254.169.254", False),
        ("fe80::1%eth0", False),
        ("::ffff:169.254.169.254", False),
        ("0.0.0.0", False),  # noqa: S104 - not to listen on
        ("::", False),
        ("224.0.0.1", False),
        ("ff02::1", False),
    ],
)
def test_addresses(address, allowed):
    assert is_elsewhere(address) is allowed
    assert is_own(address) is not allowed


async def test_a_name_of_this_machine_is_refused_where_it_is_resolved():
    names, any_names = Names(any_address=False), Names(any_address=True)
    try:
        assert {found["port"] for found in await any_names.resolve("localhost", 80)} == {80}
        with pytest.raises(OSError, match="this machine"):
            await names.resolve("localhost", 80)
    finally:
        await names.close()
        await any_names.close()
