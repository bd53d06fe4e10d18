"""The client of the API server's TokenReview: what it sends, what it takes as an answer, and what goes wrong."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pywharf.egress import token_review
from pywharf.egress.token_review import (
    ApiServer,
    ReviewedUser,
    ReviewStatus,
    ReviewUnavailableError,
    TokenReviewClient,
)
from support.certificates import Certificates, certificates
from support.identity.issuer_host import IssuerHost, issuer_host, settled

PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
ANSWER = {
    "apiVersion": "authentication.k8s.io/v1",
    "kind": "TokenReview",
    "status": {
        "authenticated": True,
        "audiences": ["pywharf"],
        "user": {"username": "system:serviceaccount:ml:trainer", "uid": "1", "groups": ["a"], "extra": {"x": ["y"]}},
    },
}


@pytest.fixture(scope="module")
def tls(tmp_path_factory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def host(tls) -> Iterator[IssuerHost]:
    with issuer_host(tls) as running:
        running.documents[PATH] = json.dumps(ANSWER).encode()
        running.status = 201
        yield running


@pytest.fixture
def files(tls: Certificates, tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("own-token\n")
    (tmp_path / "ca.crt").write_bytes(tls.authority.read_bytes())
    return tmp_path


async def reviewed(host: IssuerHost, files: Path) -> list[ReviewStatus]:
    client = TokenReviewClient(ApiServer(host.url, str(files / "ca.crt"), str(files / "token")), "tests")
    try:
        return [await client.review("their-token", "pywharf")]
    finally:
        host.ended.set()  # one that hangs does not answer TLS's goodbye either
        await client.aclose()
        await settled()


async def test_the_api_server_is_asked_about_one_token_for_one_audience(host, files):
    (found,) = await reviewed(host, files)
    assert found == ReviewStatus(
        authenticated=True, audiences=("pywharf",), user=ReviewedUser("system:serviceaccount:ml:trainer")
    )
    assert host.received == [
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": "their-token", "audiences": ["pywharf"]},
        }
    ]
    assert host.authorizations == ["Bearer own-token"]


async def test_the_own_token_is_read_again(host, files):
    client = TokenReviewClient(ApiServer(f"{host.url}/", str(files / "ca.crt"), str(files / "token")), "tests")
    try:
        await client.review("their-token", "pywharf")
        (files / "token").write_text("renewed")
        await client.review("their-token", "pywharf")
    finally:
        await client.aclose()
        await settled()
    assert host.authorizations == ["Bearer own-token", "Bearer renewed"]


@pytest.mark.parametrize("body", [{}, {"status": {}}, {"status": {"error": "no"}}])
async def test_an_answer_that_says_nothing_vouches_for_nobody(host, files, body):
    host.documents[PATH] = json.dumps(body).encode()
    assert await reviewed(host, files) == [ReviewStatus()]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 401}, r"refuses this server's own token \(401\)"),
        ({"status": 403}, r"may not create tokenreviews \(403\); bind it to system:auth-delegator"),
        ({"status": 302, "location": "/"}, "answers 302"),
        ({"status": 500}, "answers 500"),
        ({"documents": {}}, "answers 404"),
        ({"documents": {PATH: b"{"}}, "cannot be read"),
        ({"documents": {PATH: b'{"status": {"authenticated": "true"}}'}}, "cannot be read"),
        ({"documents": {PATH: b'{"status": {"authenticated": 1}}'}}, "cannot be read"),
        ({"documents": {PATH: b'{"status": {"audiences": "pywharf"}}'}}, "cannot be read"),
        ({"documents": {PATH: b" " * 65537}}, "over 65536 bytes"),
    ],
    ids=["401", "403", "redirect", "500", "404", "no JSON", "a text", "a number", "no list", "large"],
)
async def test_an_api_server_that_fails(host, files, fault, said):
    for name, value in fault.items():
        setattr(host, name, value)
    with pytest.raises(ReviewUnavailableError, match=said) as raised:
        await reviewed(host, files)
    assert "token-" not in str(raised.value)
    assert "their" not in str(raised.value)


async def test_an_api_server_that_hangs_or_is_gone(host, files, monkeypatch):
    host.hangs = True
    monkeypatch.setattr(token_review, "_TOTAL_S", 0.3)
    with pytest.raises(ReviewUnavailableError, match="in time"):
        await reviewed(host, files)
    monkeypatch.undo()
    host.url = "https://127.0.0.1:9"
    with pytest.raises(ReviewUnavailableError, match="cannot be reached"):
        await reviewed(host, files)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("token", None, r"cannot be read \(FileNotFoundError\)"),
        ("ca.crt", None, r"cannot be read \(FileNotFoundError\)"),
        ("ca.crt", b"no certificate", r"cannot be read"),
        ("token", b"", "holds no token"),
        ("token", b"two\nlines", "holds no token"),
        ("token", b"\xff", "cannot be read"),
    ],
    ids=["no token", "no authority", "no certificate", "an empty token", "two lines", "a binary token"],
)
async def test_files_that_cannot_be_used(host, files, name, content, said):
    (files / name).unlink()
    if content is not None:
        (files / name).write_bytes(content)
    with pytest.raises(ReviewUnavailableError, match=said):
        await reviewed(host, files)
    assert not host.asked


async def test_another_api_server_is_never_sent_a_token(host, files, tmp_path_factory):
    (files / "ca.crt").write_bytes(certificates(tmp_path_factory.mktemp("other")).authority.read_bytes())
    with pytest.raises(ReviewUnavailableError, match="certificate is not of --token_review_ca_file"):
        await reviewed(host, files)
    assert not host.asked
