"""Whom the server takes a client for behind proxies that it trusts, and that it believes nobody else."""

import json

import pytest

from support.server.audit import audit_lines
from support.server.calling import call
from support.server.guessing import exhaust
from support.server.serving import CONFIG, running

CLIENT = "203.0.113.9"
OTHER = "198.51.100.7"
GUESSER = "203.0.113.66"
GROUPS = """
[[demo.access]]
name = "people"
permission = "Publish"
projects = ["acme-*"]
proxy_groups = ["ml"]
"""
PERSON = {"X-Forwarded-User": "ada", "X-Forwarded-Groups": "staff,ml"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return a server that trusts this machine as a proxy, and what it says about people."""
    flags = ["--trusted_proxies=127.0.0.0/8,10.0.0.0/8", "--proxy_headers", "--access_log=json"]
    config = CONFIG.replace("\n[other]", f"{GROUPS}\n[other]")
    with running(tmp_path_factory.mktemp("proxied"), flags, config=config) as server:
        yield server


@pytest.fixture(scope="module")
def direct(tmp_path_factory):
    """Return a server that trusts other proxies than this machine."""
    with running(
        tmp_path_factory.mktemp("direct"),
        ["--trusted_proxies=10.0.0.0/8", "--proxy_headers", "--access_log=json"],
        config=CONFIG.replace("\n[other]", f"{GROUPS}\n[other]"),
    ) as server:
        yield server


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Return a server without trusted proxies."""
    with running(tmp_path_factory.mktemp("plain"), ["--access_log=json"]) as server:
        yield server


def last_access(server, path):
    lines = [line for line in server.settled_text().splitlines() if line.startswith('{"time"') and path in line]
    return json.loads(lines[-1])


def test_logs_show_the_client(server):
    reply = call(
        server.repo(),
        auth="demo:hidden",
        headers={"X-Forwarded-For": f"10.9.9.9, {CLIENT}, 10.0.0.4", "X-Request-Id": "from-the-proxy"},
    )
    assert (reply.status, reply.header("X-Request-Id")) == (401, "from-the-proxy")
    line = audit_lines(server)[-1]
    assert (line["address"], line["request_id"]) == (CLIENT, "from-the-proxy")
    shown = last_access(server, "/repo/demo/simple/")
    assert (shown["remote"], shown["request_id"]) == (CLIENT, "from-the-proxy")


@pytest.mark.parametrize("which", ["direct", "plain"])
def test_nobody_else_is_believed(which, request, source):
    server = request.getfixturevalue(which)
    headers = {"X-Forwarded-For": CLIENT, "X-Request-Id": "chosen", "Forwarded": f"for={CLIENT}"} | PERSON
    assert call(server.repo(), headers=headers).status == 401
    reply = call(server.repo(), auth="demo:hidden", headers=headers)
    assert reply.header("X-Request-Id") != "chosen"
    assert audit_lines(server)[-1]["address"] == source
    assert last_access(server, "/repo/demo/simple/")["remote"] == source


@pytest.mark.parametrize("given", ["a b", "x" * 129, "<i>", "größe", ""])
def test_an_id_that_could_break_a_line_is_replaced(server, given):
    reply = call(server.repo(), headers={"X-Request-Id": given.encode().decode("latin-1")})
    assert reply.header("X-Request-Id") not in {given, None, ""}


def test_wrong_secrets_count_for_the_client_not_the_proxy(server):
    def guess(address):
        return call(server.repo("other"), auth="other:hidden", headers={"X-Forwarded-For": address}).status

    exhaust(lambda: guess(GUESSER))
    assert guess(GUESSER) == 429
    assert guess(f"{OTHER}, {GUESSER}") == 429
    assert guess(OTHER) == 401
    assert guess(f"{GUESSER}, {OTHER}") == 401


@pytest.mark.parametrize(("which", "believed"), [("server", True), ("direct", False), ("plain", True)])
def test_tls_of_a_proxy(which, believed, request):
    """Without trusted proxies the header counts from everybody, as before: who lies about it harms only itself."""
    server = request.getfixturevalue(which)
    reply = call(server.url + "/login", headers={"X-Forwarded-Proto": "https"})
    assert (reply.header("Strict-Transport-Security") is not None) is believed


def test_a_person_of_the_proxy(server):
    """Reads without any secret; a change must come from a page of this server."""
    reply = call(server.repo(), headers=PERSON)
    assert reply.status == 200
    shown = last_access(server, "/repo/demo/simple/")
    assert (shown["subject"], shown["entry"]) == ("user:ada", "people")
    yank = f"{server.url}/repo/demo/-/projects/acme-tool/yank"
    sent = {"Content-Type": "application/json"} | PERSON
    for site, status in ((None, 403), ("cross-site", 403), ("same-site", 403), ("same-origin", 404)):
        headers = sent if site is None else sent | {"Sec-Fetch-Site": site}
        reply = call(yank, "POST", headers=headers, body=b'{"filename": "acme_tool-1.0-py3-none-any.whl"}')
        assert reply.status == status, (site, reply)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-User": "ada"},
        {"X-Forwarded-User": "ada", "X-Forwarded-Groups": "staff"},
        {"X-Forwarded-Groups": "ml"},
        {"X-Forwarded-User": "", "X-Forwarded-Groups": "ml"},
        {"X-Forwarded-Email": "ada@example.com", "X-Forwarded-Groups": "ml"},
        {"X_Forwarded_User": "ada", "X_Forwarded_Groups": "ml"},
        PERSON | {"Authorization": "Basic ZGVtbzpoaWRkZW4="},
    ],
)
def test_who_is_no_person_of_an_entry(server, headers):
    assert call(server.repo(), headers=headers).status == 401


def test_a_person_learns_of_no_other_repo(server):
    known = call(server.repo("other"), headers=PERSON)
    unknown = call(server.repo("unknown"), headers=PERSON)
    assert (known.status, known.json()["detail"]) == (401, unknown.json()["detail"])
