"""Check which hosts a list of allowed endpoints lets a server connect to, and at which addresses."""

import pytest

from pywharf.core.addresses import Reach
from pywharf.core.endpoints import PUBLIC_ENDPOINTS, EndpointNotAllowedError, allowed_reach, check_endpoints, entries_of
from pywharf.egress.policy import Egress, egress_of

OWN, PRIVATE, GLOBAL = Reach.OWN, Reach.PRIVATE, Reach.GLOBAL

# The list, the URL, the most sensitive kind of address that its host may have (None: not listed)
LISTED = [
    (("a.example",), "https://a.example/x", PRIVATE),
    (("a.example",), "http://a.example/x", PRIVATE),
    (("A.example",), "https://a.EXAMPLE./x", PRIVATE),
    (("a.example",), "https://a.example:8443/x", None),
    (("a.example:8443",), "https://a.example:8443/x", PRIVATE),
    (("a.example:8443",), "https://a.example/x", None),
    (("a.example",), "https://b.a.example/x", None),
    (("*.a.example",), "https://b.a.example/x", PRIVATE),
    (("*.a.example",), "https://a.example/x", None),
    (("*.a.example",), "https://xa.example/x", None),
    (("*",), "https://a.example/x", GLOBAL),
    (("*", "a.example"), "https://a.example/x", PRIVATE),
    (("*",), "https://localhost/x", None),
    (("*",), "https://127.0.0.1/x", None),
    (("*",), "https://127.1/x", None),
    (("*",), "https://0x7f000001/x", None),
    (("*",), "https://10.0.0.1/x", None),
    (("*",), "https://167772161/x", None),
    (("*",), "https://[fd00:ec2::254]/x", None),
    (("*",), "https://[64:ff9b::a9fe:a9fe]/x", None),
    (("*",), "https://140.82.121.6/x", GLOBAL),
    (("10.0.0.1",), "https://10.0.0.1/x", PRIVATE),
    (("127.0.0.1:8080",), "http://127.0.0.1:8080/x", OWN),
    (("localhost:8080",), "http://localhost:8080/x", OWN),
    (("[::1]:8080",), "http://[::1]:8080/x", OWN),
    (("*.localhost",), "http://x.localhost/x", None),
    ((), "https://a.example/x", None),
    (("a.example",), "ftp://a.example/x", None),
    (("a.example",), "https://a.example:99999/x", None),
    (("a.example",), "https:///x", None),
    (PUBLIC_ENDPOINTS, "https://api.github.com/repos/a/b", PRIVATE),
    (PUBLIC_ENDPOINTS, "https://release-assets.githubusercontent.com/x", PRIVATE),
    (PUBLIC_ENDPOINTS, "https://files.pythonhosted.org/x", PRIVATE),
    (PUBLIC_ENDPOINTS, "https://evil.s3.amazonaws.com/x", None),
    (PUBLIC_ENDPOINTS, "https://evil.blob.core.windows.net/x", None),
    (PUBLIC_ENDPOINTS, "https://storage.googleapis.com/evil/x", None),
    (PUBLIC_ENDPOINTS, "https://evil.githubusercontent.com/x", None),
    (PUBLIC_ENDPOINTS, "https://raw.githubusercontent.com/evil/x", None),
]


@pytest.mark.parametrize(("listed", "url", "reach"), LISTED)
def test_the_list(listed, url, reach):
    assert allowed_reach(listed, url) is reach


# The list (None: no flag), the configured URL, the redirect's target, how far the target may lead (None: refused)
REDIRECTS = [
    (None, "https://a.example/simple/", "https://a.example/other/", PRIVATE),
    (None, "https://a.example/simple/", "https://a.example:8443/", None),
    (None, "http://a.example/simple/", "https://a.example/", PRIVATE),
    (None, "http://a.example:8080/simple/", "https://a.example/", None),
    (None, "https://a.example/simple/", "https://b.example/", None),
    (None, "https://a.example/simple/", "https://files.pythonhosted.org/x", PRIVATE),
    (None, "https://api.github.com", "https://objects.githubusercontent.com/x", PRIVATE),
    (None, "http://127.0.0.1:8080/", "http://127.0.0.1:8080/x", OWN),
    (None, "http://127.0.0.1:8080/", "http://127.0.0.1:22/", None),
    (None, "https://a.example/", "http://10.0.0.1/", None),
    (("a.example",), "https://a.example/", "https://b.example/", None),
    (("a.example",), "https://a.example/", "https://pypi.org/", None),
    (("a.example", "b.example"), "https://a.example/", "https://b.example/", PRIVATE),
    (("b.example",), "https://a.example/", "https://a.example/", None),
    (("*",), "https://a.example/", "https://b.example/", GLOBAL),
    (("*",), "https://a.example/", "https://10.0.0.1/", None),
]


@pytest.mark.parametrize(("listed", "configured", "target", "reach"), REDIRECTS)
def test_redirects(listed, configured, target, reach):
    egress = Egress(listed)
    assert egress.allows(target, configured=configured) is (reach is not None)
    if reach is None:
        with pytest.raises(EndpointNotAllowedError, match="have it added to the allowed endpoints"):
            egress.reach(target, configured=configured)
    else:
        assert egress.reach(target, configured=configured) is reach


def test_a_refusal_shows_no_user_info():
    with pytest.raises(EndpointNotAllowedError, match=r"^https://b\.example is not among"):
        Egress().reach("https://me:secret@b.example/x?token=y", configured="https://a.example/")


@pytest.mark.parametrize(
    ("flag", "entries"),
    [
        (None, None),
        ("", ()),
        ("a.example", ("a.example",)),
        (" a.example:80, *.b.example ,*,[::1]:8080,", ("a.example:80", "*.b.example", "*", "[::1]:8080")),
    ],
)
def test_the_flag(flag, entries):
    check_endpoints(flag)
    assert egress_of(flag) == Egress(entries)
    assert entries is None or entries_of(flag) == entries


@pytest.mark.parametrize("entry", ["https://a.example", "a.example/x", "me@a", "a b", "**", "a.*", "a:b", "[x]"])
def test_entries_that_name_no_host(entry):
    with pytest.raises(ValueError, match="names no host; write HOST"):
        check_endpoints(f"good.example,{entry}")
