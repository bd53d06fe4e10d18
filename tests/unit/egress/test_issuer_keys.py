"""The client of issuers: discovery and keys, limits, and faults of the host."""

from collections.abc import Iterator

import pytest

from pywharf.core.access.identity_document import MAX_JWKS_BYTES
from pywharf.egress.issuer_keys import IssuerKeysClient, KeysUnavailableError
from pywharf.egress.policy import Egress
from support.identity.issuer_host import DISCOVERY, KEYS, IssuerHost, issuer_host, settled
from support.identity.tokens import jwks, signing_key

KEY = signing_key("corp-1", "ES256")


@pytest.fixture
def host() -> Iterator[IssuerHost]:
    with issuer_host() as running:
        running.publish(KEY)
        yield running


async def fetched(issuer: str, egress: Egress = Egress(), total_s: float = 10) -> object:  # noqa: B008 - immutable
    try:
        return await IssuerKeysClient("tests", egress, total_s=total_s).fetch(issuer)
    finally:
        await settled()


async def test_keys_are_found_by_discovery(host):
    assert await fetched(host.url) == jwks(KEY)
    assert host.asked == [DISCOVERY, KEYS]
    assert host.authorizations == [None, None]


async def test_an_issuer_with_a_path_or_a_final_slash(host):
    for suffix in ("/realms/corp", "/realms/corp/"):
        host.publish(KEY, issuer=host.url + suffix)
        host.documents[f"/realms/corp{DISCOVERY}"] = host.documents[DISCOVERY]
        assert await fetched(host.url + suffix) == jwks(KEY)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 500}, "its host answers 500"),
        ({"status": 302, "location": KEYS}, "its host answers 302"),
        ({"documents": {}}, "its host answers 404"),
        ({"documents": {DISCOVERY: b"{"}}, "cannot be read"),
        ({"documents": {DISCOVERY: b"[" * 60_000}}, "cannot be read"),
        ({"documents": {DISCOVERY: b"\xff"}}, "cannot be read"),
        ({"documents": {DISCOVERY: b"[]"}}, "its discovery document is of another issuer"),
        ({"documents": {DISCOVERY: b'{"a": "' + b"x" * MAX_JWKS_BYTES + b'"}'}}, "over 65536 bytes"),
    ],
    ids=["500", "redirect", "404", "no JSON", "deep", "binary", "a list", "large"],
)
async def test_a_host_that_fails(host, fault, said):
    for name, value in fault.items():
        setattr(host, name, value)
    with pytest.raises(KeysUnavailableError, match=said):
        await fetched(host.url)


async def test_a_host_that_hangs(host):
    host.hangs = True
    with pytest.raises(KeysUnavailableError, match="in time"):
        await fetched(host.url, total_s=0.3)


async def test_keys_that_are_huge(host):
    host.documents[KEYS] = b" " * (MAX_JWKS_BYTES + 1)
    with pytest.raises(KeysUnavailableError, match="over 65536 bytes"):
        await fetched(host.url)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"issuer": "https://evil.example"}, "of another issuer"),
        ({"issuer": None}, "of another issuer"),
        ({"jwks_uri": None}, "no https URL"),
        ({"jwks_uri": 7}, "no https URL"),
        ({"jwks_uri": "/keys"}, "no https URL"),
        ({"jwks_uri": "file:///etc/passwd"}, "no https URL"),
        ({"jwks_uri": "https://user:word@127.0.0.1/keys"}, "with user info"),
        ({"jwks_uri": "https://keys.example/keys"}, "not among the hosts"),
        ({"jwks_uri": "https://169.254.169.254/latest"}, "not among the hosts"),
        ({"jwks_uri": "http://[::1/keys"}, "cannot be read"),
    ],
    ids=["other", "none", "missing", "number", "relative", "file", "user info", "other host", "metadata", "no URL"],
)
async def test_a_discovery_document_that_leads_elsewhere(host, changed, said):
    host.publish(KEY, **changed)
    with pytest.raises(KeysUnavailableError, match=said):
        await fetched(host.url)
    assert host.asked == [DISCOVERY]


async def test_an_issuer_with_a_final_slash_is_another_one(host):
    with pytest.raises(KeysUnavailableError, match="of another issuer"):
        await fetched(f"{host.url}/")


async def test_a_host_that_is_not_there(host):
    with pytest.raises(KeysUnavailableError, match="cannot be reached"):
        await fetched("http://127.0.0.1:9")
    assert not host.asked


async def test_keys_on_another_host_that_is_allowed(host):
    with issuer_host() as other:
        other.publish(KEY)
        host.publish(KEY, jwks_uri=other.url + KEYS)
        assert await fetched(host.url, Egress((other.url.removeprefix("http://"),))) == jwks(KEY)
        for egress in (Egress(), Egress(()), Egress(("sso.example.com",)), Egress(("*",))):
            with pytest.raises(KeysUnavailableError, match="not among"):
                await fetched(host.url, egress)


async def test_an_issuers_own_host_needs_no_entry(host):
    assert await fetched(host.url, Egress(("sso.example.com",))) == jwks(KEY)


async def test_a_certificate_of_somebody_else(tmp_path_factory):
    from support.certificates import certificates  # noqa: PLC0415

    with issuer_host(certificates(tmp_path_factory.mktemp("tls"))) as secured:
        secured.publish(KEY)
        with pytest.raises(KeysUnavailableError, match="its certificate is not trusted; name its CA"):
            await fetched(secured.url)
