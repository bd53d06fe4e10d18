"""Tests of identities that an issuer signed, from the request to the browser's session, on a real server."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from support.distributions.wheels import wheel
from support.identity.tokens import account_claims, corp_claims, identity_document, signing_key
from support.server.calling import Reply, call, form
from support.server.serving import Server, running
from support.waiting import wait_for

PODS = """
[[demo.access]]
name = "pods"
permission = "Read"
projects = ["acme-*"]
service_accounts = [{namespace = "ml", name = "trainer"}]
"""
BUILDS = """
[[demo.access]]
name = "builds"
permission = "Publish"
oidc = {issuer = "corp", claims = {sub = "build-*", team = 7}}
"""
LONG = """
[[demo.access]]
name = "long"
permission = "Read"
oidc = {issuer = "corp", claims = {text = "*"}}
"""
DEMO = '[demo]\ntype = "file_system"\nread_secret = "demo-read"\nwrite_secret = "demo-write"\n'


LEEWAY_S = 30
"""Seconds for which a token counts after its end, for clocks that differ."""


def config(folder: Path, *entries: str) -> str:
    return f'identity_file = "{folder / "identity.json"}"\n{DEMO}{"".join(entries)}'


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("identity")
    (folder / "identity.json").write_text(json.dumps(identity_document()))
    with running(folder, config=config(folder, PODS, BUILDS, LONG)) as server:
        for project in ("acme-tool", "other"):
            assert publish(server, folder, project, "demo:demo-write").status == 200
        yield server


def publish(server: Server, folder: Path, project: str, auth: str, version: str = "1.0") -> Reply:
    file = wheel(folder, project, version)
    body, content_type = form((":action", "file_upload"), ("content", file.name, file.read_bytes()))
    return call(server.repo(), "POST", auth=auth, headers={"Content-Type": content_type}, body=body)


def pod(server: Server, **claims: object) -> str:
    token = signing_key().token(account_claims(time.time(), **claims))
    server.secrets.add(token)
    return token


def build(server: Server, **claims: object) -> str:
    token = signing_key("corp-1", "ES256").token(corp_claims(time.time(), **({"team": 7} | claims)))
    server.secrets.add(token)
    return token


def page(server: Server, project: str, token: str) -> int:
    return call(f"{server.repo()}{project}/", auth=f"__token__:{token}").status


def test_a_pod_reads_and_a_build_publishes(server, tmp_path):
    trainer, stranger = pod(server), pod(server, sub="system:serviceaccount:ml:other")
    assert [page(server, name, trainer) for name in ("acme-tool", "other")] == [200, 404]
    assert call(f"{server.repo()}acme-tool/", headers={"Authorization": f"Bearer {trainer}"}).status == 200
    assert page(server, "acme-tool", stranger) == 401
    assert publish(server, tmp_path, "acme-tool", f"x:{trainer}", "2.0").status == 403
    assert publish(server, tmp_path, "other", f"x:{build(server)}", "2.0").status == 200
    for claims in ({"team": "7"}, {"team": 8}, {"sub": "test-1"}, {"sub": "build-1/2"}, {"exp": int(time.time()) - 60}):
        assert publish(server, tmp_path, "other", f"x:{build(server, **claims)}", "3.0").status == 401


def sign_in(server: Server, token: str) -> Reply:
    body = urlencode({"pkg_repo_name": "demo", "pkg_repo_secret_raw": token}).encode()
    return call(f"{server.url}/login", "POST", headers={"Content-Type": "application/x-www-form-urlencoded"}, body=body)


def cookie_of(server: Server, token: str) -> str:
    cookie = sign_in(server, token).header("Set-Cookie")
    assert cookie is not None
    assert len(cookie.partition(";")[0]) < 1024
    assert token not in cookie
    return cookie.partition(";")[0]


def seen(server: Server, cookie: str, project: str) -> int:
    return call(f"{server.repo()}{project}/", headers={"Cookie": cookie}).status


def test_browsers_sign_in_with_tokens_of_issuers(server):
    account, corp = cookie_of(server, pod(server)), cookie_of(server, build(server, groups=["x" * 500] * 8))
    assert [seen(server, account, name) for name in ("acme-tool", "other")] == [200, 404]
    assert [seen(server, corp, name) for name in ("acme-tool", "other")] == [200, 200]
    assert call(f"{server.url}/simple/", headers={"Cookie": account}).status == 200


def test_what_no_cookie_holds_is_refused_with_a_sentence(server):
    assert sign_in(server, build(server, text="x" * 100)).status == 303
    reply = sign_in(server, build(server, text="x" * 1000))
    assert reply.status == 400, reply
    assert b"does not fit into a browser" in reply.body
    assert reply.header("Set-Cookie") is None


def test_a_session_ends_with_the_token_by_which_somebody_signed_in(server):
    now = int(time.time())
    cookie = cookie_of(server, build(server, iat=now - 60, exp=now - LEEWAY_S + 3))
    assert seen(server, cookie, "other") == 200
    wait_for(lambda: seen(server, cookie, "other") == 401, "the end of the session")


def test_sessions_end_with_their_entry_alone(tmp_path):
    (tmp_path / "identity.json").write_text(json.dumps(identity_document()))
    with running(tmp_path, config=config(tmp_path, PODS, BUILDS)) as server:
        account, corp = cookie_of(server, pod(server)), cookie_of(server, build(server))

        def statuses() -> tuple[int, int]:
            replies = [call(server.repo(), headers={"Cookie": cookie}) for cookie in (account, corp)]
            return replies[0].status, replies[1].status

        assert statuses() == (200, 200)
        (tmp_path / "config.toml").write_text(config(tmp_path, BUILDS))
        wait_for(lambda: statuses() == (401, 200), "the end of the pods' entry")
        (tmp_path / "config.toml").write_text(config(tmp_path, PODS, BUILDS.replace("build-*", "*")))
        wait_for(lambda: statuses() == (200, 401), "another entry about builds")
