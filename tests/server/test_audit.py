"""The audit log of a real server: who published, changed, signed in and was refused. No line holds a secret."""

import hashlib
import re
from urllib.parse import urlencode

import pytest

from pywharf.core.access.tokens import digest_of, new_token
from support.distributions.wheels import wheel
from support.server.audit import audit_lines
from support.server.calling import call
from support.server.index_client import IndexClient
from support.server.metrics import metric
from support.server.serving import CONFIG, running

READER, WRITER, STRANGER = new_token(), new_token(), new_token()
ENTRIES = f"""
[[demo.access]]
name = "ci"
permission = "Publish"
projects = ["acme-*"]
token_digests = ["{digest_of(WRITER)}"]

[[demo.access]]
name = "pods"
permission = "Read"
token_digests = ["{digest_of(READER)}"]
"""
URLENCODED = "application/x-www-form-urlencoded"


def config(entries=ENTRIES):
    """Return the usual configuration with entries of the repo demo."""
    return CONFIG.replace("\n[other]", f"{entries}\n[other]")


def login(server, repo, secret, headers=None):
    body = urlencode({"pkg_repo_name": repo, "pkg_repo_secret_raw": secret}).encode()
    return call(f"{server.url}/login", "POST", headers={"Content-Type": URLENCODED} | (headers or {}), body=body)


@pytest.fixture
def server(tmp_path):
    with running(tmp_path / "server", ["--access_log=json"], config=config()) as server:
        server.secrets |= {READER, WRITER, STRANGER}
        yield server


def test_every_event_of_a_day(server, tmp_path, source):
    """Each has the fields of the schema and no other, and its request's id is in the answer or the access log."""
    path = wheel(tmp_path, "acme-tool")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert IndexClient(server.url, "demo", WRITER).upload(path).status == 200
    assert IndexClient(server.url, "demo", "demo-write").upload(wheel(tmp_path, "other")).status == 200
    client = IndexClient(server.url, "demo", WRITER)
    client.change("acme-tool", "yank", filename=path.name, reason="broken")
    # Nothing of these is an event: reading, and requests without a secret.
    assert call(server.repo(), auth=f"demo:{READER}").status == 200
    assert call(server.repo()).status == 401
    assert call(server.repo(), auth="demo:").status == 401
    # Refusals
    assert call(server.repo(), auth=f"demo:{STRANGER}").status == 401
    assert call(server.repo(), auth="demo:hidden").status == 401
    assert client.upload(wheel(tmp_path, "elsewhere")).status == 403
    reading = IndexClient(server.url, "demo", READER).upload(path)
    assert reading.status == 403
    # A browser
    signed_in = login(server, "demo", READER)
    cookie = (signed_in.header("Set-Cookie") or "").partition(";")[0]
    assert call(f"{server.url}/logout", headers={"Cookie": cookie}).status == 303
    assert call(server.repo(), headers={"Cookie": cookie}).status == 401
    told = []
    for line in audit_lines(server):
        assert line.pop("schema") == "pywharf.audit/1"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
        assert re.fullmatch(r"[0-9a-f]{24}", line.pop("request_id"))
        assert line.pop("address") == source
        told.append(line)
    writer = {"subject": f"token:{digest_of(WRITER)[7:19]}", "entry": "ci"}
    reader = {"subject": f"token:{digest_of(READER)[7:19]}", "entry": "pods"}
    demo, done = {"repo": "demo"}, {"result": "done", "repo": "demo"}
    refusal = {"event": "refusal", "result": "refused"} | demo
    assert told == [
        done | writer | {"event": "publish", "project": "acme-tool", "files": [path.name], "sha256": sha256},
        done
        | {
            "event": "publish",
            "project": "other",
            "files": ["other-1.0-py3-none-any.whl"],
            "sha256": told[1]["sha256"],
        },
        done
        | writer
        | {"event": "change", "action": "yank", "project": "acme-tool", "files": [path.name], "reason": "broken"},
        refusal | {"status": 401, "reason": "not-named", "subject": f"token:{digest_of(STRANGER)[7:19]}"},
        refusal | {"status": 401, "reason": "wrong-secret"},
        refusal
        | writer
        | {
            "status": 403,
            "reason": told[5]["reason"],
            "project": "elsewhere",
            "files": ["elsewhere-1.0-py3-none-any.whl"],
        },
        refusal | reader | {"status": 403, "reason": reading.json()["detail"]},
        done | reader | {"event": "login"},
        done | {"event": "logout", "subject": reader["subject"]},
        refusal | {"status": 401, "reason": "session"},
    ]
    assert "'elsewhere'" in told[5]["reason"]
    assert [metric(server, "pywharf_refusals_total", status) for status in ("401", "403")] == [3, 2]


def test_an_answer_and_its_lines_have_one_id(server):
    reply = call(server.repo(), auth="demo:hidden", headers={"X-Request-Id": "chosen-by-a-client"})
    [line] = audit_lines(server)
    assert reply.header("X-Request-Id") == line["request_id"] != "chosen-by-a-client"
    assert f'"request_id":"{line["request_id"]}"' in server.settled_text().replace(", ", ",")


def test_the_access_log_names_subject_and_entry(server, tmp_path):
    assert call(server.repo(), auth=f"demo:{READER}", headers={"User-Agent": "json"}).status == 200
    [line] = [line for line in server.settled_text().splitlines() if '"agent":"json"' in line]
    assert f'"repo":"demo","subject":"token:{digest_of(READER)[7:19]}","entry":"pods"' in line
    with running(tmp_path / "text", config=config()) as text:
        text.secrets |= {READER}
        assert call(text.repo(), auth=f"demo:{READER}").status == 200
        assert call(text.repo(), auth="demo:demo-read").status == 200
        log = text.settled_text()
    assert f"repo=demo subject='token:{digest_of(READER)[7:19]}' entry=pods agent=" in log
    assert "repo=demo subject=- entry=- agent=" in log


def test_what_people_type_as_a_name_is_no_name(server):
    """A secret in the place of the name is in no line."""
    server.secrets |= {"typed-as-name", "typed-as-user"}
    assert login(server, "typed-as-name", "demo").status == 401
    assert call(f"{server.url}/simple/", auth="typed-as-user:demo").status == 401
    cookie = (login(server, "demo", READER).header("Set-Cookie") or "").partition(";")[0]
    assert call(server.repo("typed-in-path"), headers={"Cookie": cookie}).status == 401
    refusals = [line for line in audit_lines(server) if line["event"] == "refusal"]
    assert [(line.get("repo"), line["reason"]) for line in refusals] == [
        (None, "wrong-secret"),
        (None, "wrong-secret"),
        (None, "session"),
    ]


def test_an_identity_that_no_entry_names_signs_in_nowhere(tmp_path):
    """Also where everybody may read: a session for nothing could still be ended, again and again."""
    entries = f"anonymous_read = true\n{ENTRIES}".replace(
        f'token_digests = ["{digest_of(READER)}"]',
        f'token_digests = ["{digest_of(READER)}"]\nexpires = 2020-01-01T00:00:00Z',
    )
    with running(tmp_path, config=config(entries).replace('read_secret = "demo-read"\n', "")) as server:
        server.secrets |= {READER, WRITER, STRANGER}
        assert call(server.repo(), auth=f"demo:{STRANGER}").status == 200
        for token in (STRANGER, READER):
            reply = login(server, "demo", token)
            assert (reply.status, reply.header("Set-Cookie")) == (401, None)
        assert login(server, "demo", WRITER).status == 303
        told = [(line["event"], line.get("reason"), line["subject"]) for line in audit_lines(server)]
    subjects = [f"token:{digest_of(token)[7:19]}" for token in (STRANGER, READER, WRITER)]
    assert told == [
        ("refusal", "not-named", subjects[0]),
        ("refusal", "not-named", subjects[1]),
        ("login", None, subjects[2]),
    ]


def test_off(tmp_path):
    with running(tmp_path, ["--audit_log=off"]) as server:
        assert call(server.repo(), auth="demo:hidden").status == 401
        assert audit_lines(server) == []


def test_a_flood_of_refusals_leaves_few_lines(server):
    assert all(call(server.repo(), auth=f"demo:hidden-{n}").status == 401 for n in range(30))
    assert len(audit_lines(server)) < 30
    assert metric(server, "pywharf_audit_suppressed_total", "refusal") == 30 - len(audit_lines(server))


def test_a_hostile_client_cannot_write_a_line(server, source):
    """Neither by a path nor by headers that a proxy would set."""
    fake = '{"schema":"pywharf.audit/1","event":"login"}'
    headers = {"X-Forwarded-For": f"1.2.3.4\t{fake}", "X-Forwarded-User": "root", "X-Forwarded-Groups": "admins"}
    for path in (f"/repo/demo%0a{fake}/simple/", f"/repo/demo/simple/a%0a{fake}/b", "/repo/%ff%00/simple/"):
        assert call(server.url + path.replace('"', "%22"), auth="demo:hidden", headers=headers).status == 401
    lines = audit_lines(server)
    assert len(lines) == 3
    assert {(line["event"], line["address"], line.get("subject")) for line in lines} == {("refusal", source, None)}
