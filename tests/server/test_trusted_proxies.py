"""Whom the server takes a client for behind proxies that it trusts, and that it believes nobody else."""

import json
from urllib.parse import urlencode

import pytest

from support.distributions.wheels import wheel
from support.server.audit import audit_lines
from support.server.calling import call, form
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

[[demo.access]]
name = "readers"
permission = "Read"
projects = ["corp-*"]
proxy_groups = ["readers"]
"""
OPEN = """
[open]
type = "file_system"
anonymous_read = true
write_secret = "open-write"
"""
PERSON = {"X-Forwarded-User": "ada", "X-Forwarded-Groups": "staff,ml"}
READER = {"X-Forwarded-User": "bob", "X-Forwarded-Groups": "readers"}
STRANGER = {"X-Forwarded-User": "eve", "X-Forwarded-Groups": "staff"}
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return a server that trusts this machine as a proxy, and what it says about people."""
    flags = ["--trusted_proxies=127.0.0.0/8,10.0.0.0/8", "--proxy_headers", "--access_log=json"]
    config = CONFIG.replace("\n[other]", f"{GROUPS}\n[other]") + OPEN
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


def session(server, repo, secret):
    """Sign in and return the header with the cookie."""
    body = urlencode({"pkg_repo_name": repo, "pkg_repo_secret_raw": secret}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    reply = call(f"{server.url}/login", "POST", headers=headers, body=body)
    return {"Cookie": str(reply.header("Set-Cookie")).partition(";")[0]}


def publish(server, folder, project, headers, repo="demo"):
    file = wheel(folder, project)
    body, content_type = form((":action", "file_upload"), ("content", file.name, file.read_bytes()))
    return call(server.repo(repo), "POST", headers=headers | {"Content-Type": content_type}, body=body)


def new_lines(server, known):
    """Return what the audit log says since it had so many lines, without what all lines have."""
    common = {"schema", "time", "request_id", "address", "result", "sha256", "files"}
    return [{k: v for k, v in line.items() if k not in common} for line in audit_lines(server)[known:]]


@pytest.mark.parametrize("person", [READER, STRANGER], ids=["with Read", "whom no entry names"])
@pytest.mark.parametrize("repo", ["demo", "open"])
def test_a_person_takes_nothing_from_the_browsers_session(server, tmp_path, repo, person):
    both = session(server, repo, f"{repo}-write") | person | OWN_PAGE
    known = len(audit_lines(server))
    project = f"any-{person['X-Forwarded-User']}"
    assert publish(server, tmp_path, project, both, repo).status == 200
    assert call(f"{server.repo(repo)}{project}/", headers=both).status == 200
    assert new_lines(server, known) == [{"event": "publish", "repo": repo, "project": project}]


def test_a_session_takes_nothing_from_the_person(server, tmp_path):
    both = session(server, "demo", "demo-read") | PERSON | OWN_PAGE
    known = len(audit_lines(server))
    assert publish(server, tmp_path, "acme-person", both).status == 200
    assert publish(server, tmp_path, "elsewhere", both).status == 403
    written = publish(server, tmp_path, "unshown", session(server, "demo", "demo-write") | OWN_PAGE)
    assert written.status == 200
    assert call(f"{server.repo()}unshown/", headers=PERSON).status == 404
    assert call(f"{server.repo()}unshown/", headers=both).status == 200
    ada = {"repo": "demo", "subject": "user:ada", "entry": "people"}
    [first, second, *_] = new_lines(server, known)
    assert first == ada | {"event": "publish", "project": "acme-person"}
    assert second == ada | {
        "event": "refusal",
        "project": "elsewhere",
        "status": 403,
        "reason": "The access entry 'people' does not allow publishing to the project 'elsewhere'.",
    }


def test_each_refusal_of_a_person_has_its_line(server, tmp_path):
    known = len(audit_lines(server))
    assert publish(server, tmp_path, "corp-tool", READER | OWN_PAGE).status == 403
    assert publish(server, tmp_path, "acme-tool", PERSON | {"Sec-Fetch-Site": "cross-site"}).status == 403
    assert call(server.repo(), headers=STRANGER).status == 401
    assert call(server.repo("unknown"), headers=STRANGER).status == 401
    assert call(server.repo("other"), headers=STRANGER | session(server, "demo", "demo-read")).status == 401
    assert call(server.repo()).status == 401
    refusal = {"event": "refusal", "repo": "demo"}
    assert [line for line in new_lines(server, known) if line["event"] == "refusal"] == [
        refusal
        | {
            "status": 403,
            "subject": "user:bob",
            "entry": "readers",
            "reason": "The access entry 'readers' allows reading only.",
        },
        refusal
        | {
            "status": 403,
            "subject": "user:ada",
            "entry": "people",
            "reason": "A browser publishes only from this server's own pages.",
        },
        refusal | {"status": 401, "subject": "user:eve", "reason": "not-named"},
        {"event": "refusal", "status": 401, "subject": "user:eve", "reason": "not-named"},
        refusal | {"repo": "other", "status": 401, "subject": "user:eve", "reason": "not-named"},
    ]
