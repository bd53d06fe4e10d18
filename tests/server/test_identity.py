"""Tokens of ServiceAccounts and of OIDC issuers at a running server: who is let in, and when that changes."""

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.certificates import Certificates, certificates
from support.identity.forged import forged_tokens
from support.identity.identity_file import IdentityFile
from support.identity.issuer_host import issuer_host
from support.identity.tokens import CLUSTER, account_claims, corp_claims, identity_document, jwks, signing_key
from support.server.audit import audit_lines
from support.server.calling import Reply, basic, call
from support.server.metrics import metric
from support.server.serving import CONFIG, Server, running
from support.waiting import wait_for

ENTRIES = """
[[demo.access]]
name = "pods"
permission = "Read"
service_accounts = [{namespace = "ml", name = "trainer"}]

[[demo.access]]
name = "builds"
permission = "Publish"
oidc = {issuer = "corp", claims = {sub = "build-*"}}
"""
TABLES = CONFIG.replace("\n[other]", f"{ENTRIES}\n[other]")
OFFENDER = "203.0.113.{}"


@dataclass
class Place:
    """A running server and its identity document."""

    server: Server
    identities: IdentityFile
    config: str

    def read(self, token: str, repo: str = "demo", user: str = "__token__", address: str = "192.0.2.1") -> Reply:
        headers = {"Authorization": basic(f"{user}:{token}"), "X-Forwarded-For": address}
        return call(self.server.repo(repo), headers=headers)


def same(reply: Reply) -> tuple[object, ...]:
    """Return what must be the same for all refusals: everything but the request's id."""
    assert reply.header("X-Request-Id")
    return reply.status, reply.reason, json.dumps(reply.json()), reply.header("WWW-Authenticate")


@contextlib.contextmanager
def placed(
    folder: Path, document: dict[str, object], *flags: str, env: dict[str, str] | None = None
) -> Iterator[Place]:
    folder.mkdir(parents=True, exist_ok=True)
    identities = IdentityFile(folder / "identity.json")
    identities.write(document)
    config = identities.config(TABLES)
    all_flags = ["--internal_port=0", "--trusted_proxies=127.0.0.0/8", *flags]
    with running(folder, all_flags, config=config, env=env) as server:
        yield Place(server, identities, config)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    with placed(tmp_path_factory.mktemp("identity"), identity_document()) as made:
        yield made


def test_a_pod_reads_with_its_token_and_any_user_name(place):
    token = signing_key().token(account_claims(time.time()))
    place.server.secrets.add(token)
    for user in ("__token__", "demo", "trainer", ""):
        assert place.read(token, user=user).status == 200, user
    bearer = {"Authorization": f"Bearer {token}"}
    assert call(place.server.repo(), headers=bearer).status == 200
    assert call(f"{place.server.url}/simple/", headers={"Authorization": basic(f"demo:{token}")}).status == 200
    assert place.read(token, repo="other").status == 401
    assert place.read(token, repo="nowhere").status == 401


def test_a_token_of_another_pod_or_of_nobody_named_is_a_wrong_secret(place):
    now = time.time()
    other = account_claims(
        now,
        sub="system:serviceaccount:prod:trainer",
        **{"kubernetes.io": {"namespace": "prod", "serviceaccount": {"name": "trainer"}}},
    )
    corp = signing_key("corp-1", "ES256")
    wrong = place.read("wrong-secret")
    assert wrong.status == 401
    for token in (signing_key().token(other), corp.token(corp_claims(now, sub="test-1"))):
        place.server.secrets.add(token)
        assert same(place.read(token)) == same(wrong)
    assert place.read(corp.token(corp_claims(now))).status == 200


def test_every_forged_token_is_answered_alike_and_the_audit_alone_says_why(place):
    expected = []
    answers = set()
    wrong = place.read("wrong-secret", address=OFFENDER.format(1))
    for number, forged in enumerate(forged_tokens(time.time())):
        if len(forged.token) > 5000:
            continue  # the header would be over the limit of HTTP: see below
        place.server.secrets.add(forged.token)
        address = f"198.51.100.{number}"
        answers.add(same(place.read(forged.token, address=address)))
        expected.append((address, forged.reason.value))
    assert wrong.status == 401
    assert answers == {same(wrong)}
    found = {line["address"]: line["reason"] for line in audit_lines(place.server) if line["event"] == "refusal"}
    assert [(address, found[address].partition(":")[0]) for address, _ in expected] == expected
    assert metric(place.server, "pywharf_identity_verifications_total", "jwt-expired", internal=True) >= 2


def test_a_token_of_8_kb_is_more_than_a_header_holds(place):
    assert place.read(signing_key().token(account_claims(time.time(), padding="x" * 8192))).status == 400


def test_a_rotated_cluster_key_is_followed_with_the_configuration(tmp_path):
    old, new = signing_key("cluster-1"), signing_key("cluster-2")
    claims = account_claims(time.time())
    with placed(tmp_path, {"cluster": {"issuer": CLUSTER, "jwks": jwks(old)}}) as place:
        place.server.secrets |= {old.token(claims), new.token(claims)}
        assert (place.read(old.token(claims)).status, place.read(new.token(claims)).status) == (200, 401)
        place.identities.serve(place.server, place.config, {"cluster": {"issuer": CLUSTER, "jwks": jwks(old, new)}})
        assert (place.read(old.token(claims)).status, place.read(new.token(claims)).status) == (200, 200)
        place.identities.serve(place.server, place.config, {"cluster": {"issuer": CLUSTER, "jwks": jwks(new)}})
        assert (place.read(old.token(claims)).status, place.read(new.token(claims)).status) == (401, 200)
        place.identities.path.write_text('{"cluster": {}}')
        wait_for(lambda: "The new configuration is refused" in place.server.text(), "the refusal")
        assert place.read(new.token(claims)).status == 200, "the last good one stays"


@pytest.fixture(scope="module")
def tls(tmp_path_factory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("workers", [1, 2])
def test_keys_of_an_issuer_are_followed_over_tls(tmp_path, tls, workers):
    old, new = signing_key("corp-1", "ES256"), signing_key("corp-2", "ES256")
    with issuer_host(tls) as host:
        host.publish(old)
        document: dict[str, object] = {"issuers": [{"name": "corp", "url": host.url}]}
        trust = {"SSL_CERT_FILE": str(tls.authority)}

        def token(key):
            return key.token(corp_claims(time.time(), iss=host.url))

        with placed(tmp_path, document, f"--workers={workers}", env=trust) as place:
            wait_for(lambda: call(f"{place.server.internal_url}/readyz").status == 200, "every worker to be ready")
            for _ in range(6):
                assert place.read(token(old)).status == 200
            host.publish(old, new)
            # Each worker looks for the unknown key once.
            for _ in range(6):
                assert place.read(token(new)).status == 200
            assert len(host.asked) <= 4 * workers
            fetched = metric(place.server, "pywharf_identity_key_fetches_total", "corp", "fetched", internal=True)
            assert fetched == len(host.asked) / 2
            age = time.time() - metric(place.server, "pywharf_identity_keys_timestamp_seconds", "corp", internal=True)
            assert 0 <= age < 600


def test_an_issuer_that_is_down_makes_nobody_unready_and_lets_nobody_in(tmp_path, tls):
    key = signing_key("corp-1", "ES256")
    with issuer_host(tls) as host:
        host.publish(key)
        host.status = 500
        trust = {"SSL_CERT_FILE": str(tls.authority)}
        cluster = {"issuer": CLUSTER, "jwks": jwks(signing_key())}
        issuers = [{"name": "corp", "url": host.url}]
        with placed(tmp_path, {"cluster": cluster, "issuers": issuers}, env=trust) as place:
            assert call(f"{place.server.internal_url}/readyz").status == 200
            token = key.token(corp_claims(time.time(), iss=host.url))
            replies = [place.read(token, repo=repo) for repo in ("demo", "other", "nowhere")]
            for reply in replies:
                assert reply.status == 503, "no repo is asked about it"
                assert reply.header("Retry-After") == "10"
            assert replies[0].json()["type"] == "urn:pywharf:problem:identity-unavailable"
            assert place.read(signing_key().token(account_claims(time.time()))).status == 200
            assert place.read("demo-read", user="demo").status == 200
            text = "The keys of the issuer corp cannot be used: its host answers 500"
            wait_for(lambda: text in place.server.text(), "the line in the log")
            host.status = 200
            wait_for(lambda: place.read(token).status == 200, "the keys", longest_s=60)


def test_a_library_that_is_missing_is_said_at_the_start(tmp_path):
    (tmp_path / "jwt.py").write_text("raise ImportError\n")
    (tmp_path / "identity.json").write_text(json.dumps(identity_document()))
    config = IdentityFile(tmp_path / "identity.json").config(TABLES)
    with (
        pytest.raises(AssertionError, match=r"are not installed; install pywharf\[identity\]"),
        running(tmp_path / "server", config=config, env={"PYTHONPATH": str(tmp_path)}),
    ):
        pass
