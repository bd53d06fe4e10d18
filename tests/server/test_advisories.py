"""A server's feed of advisories: what real clients learn from it, and what the server reports about it."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from pywharf.config.settings import DEFAULT_EXTRA_INDEX_URL
from support.advisories import Json, affected, entry, malware, zipped
from support.clients.computer import Computer
from support.distributions.wheels import wheel
from support.server.calling import Reply, call, form
from support.server.feed_host import hosting
from support.server.metrics import metric
from support.server.serving import Server, running
from support.waiting import wait_for

FLAW = entry(
    "GHSA-aaaa-bbbb-cccc",
    affected("flawed", ["1.0", "1.1"], [{"introduced": "0"}, {"fixed": "1.2"}]),
    aliases=["CVE-2026-1"],
    details="It is flawed.",
    published="2026-01-01T00:00:00Z",
)
ENTRIES = [malware("stolen", "1.0"), FLAW]


def knows(server: Server, identifier: str) -> bool:
    return call(f"{server.url}/v1/vulns/{identifier}").status == 200


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("advisories")
    feed = folder / "feed.zip"
    feed.write_bytes(zipped(ENTRIES))
    os.utime(feed, (0, 0))  # nobody is copying it
    with running(folder, [f"--advisories={feed}"]) as server:
        wait_for(lambda: knows(server, FLAW["id"]), "the feed")
        yield server


def post(server: Server, path: str, body: object) -> Reply:
    # As curl sends it, and as OSV's own documentation shows.
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return call(server.url + path, "POST", headers=headers, body=content)


def test_osvs_calls(server):
    acme: Json = {"package": {"name": "Flawed", "ecosystem": "PyPI"}, "version": "1.1"}
    stolen: Json = {"package": {"purl": "pkg:pypi/stolen@1.0"}}
    npm: Json = {"package": {"name": "flawed", "ecosystem": "npm"}, "version": "1.1"}
    batch = post(server, "/v1/querybatch", {"queries": [acme, npm, stolen]})
    modified = "2026-01-02T03:04:05Z"
    assert batch.json() == {
        "results": [
            {"vulns": [{"id": FLAW["id"], "modified": modified}]},
            {},
            {"vulns": [{"id": "MAL-2026-stolen", "modified": modified}]},
        ]
    }
    assert post(server, "/v1/query", acme).json() == {"vulns": [FLAW]}
    assert post(server, "/v1/query", npm).json() == {}
    one = call(f"{server.url}/v1/vulns/{FLAW['id']}")
    assert (one.json(), one.header("Content-Type")) == (FLAW, "application/json")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/vulns/MAL-2026-none", None, 404),
        ("GET", "/v1/vulns/..%2Fx", None, 404),
        ("GET", "/v1/vulns/" + "x" * 3000, None, 404),
        ("GET", "/v1/query", None, 405),
        ("POST", "/v1/query", b"{}", 400),
        ("POST", "/v1/query", b"", 400),
        ("POST", "/v1/querybatch", b'{"queries": 1}', 400),
        ("POST", "/v1/querybatch", b" " * (256 * 1024 + 1), 413),
        ("POST", "/v1/query", b" " * (16 * 1024 + 1), 413),
        ("POST", "/v1/querybatch", json.dumps({"queries": [{"commit": "x"}] * 1001}).encode(), 400),
    ],
)
def test_calls_that_are_refused(server, method, path, body, status):
    reply = call(server.url + path, method, body=body)
    assert reply.status == status, reply
    assert reply.header("Content-Type") == "application/problem+json"


def test_a_whole_batch_is_answered(server):
    queries = [{"package": {"name": f"project-{number}", "ecosystem": "PyPI"}, "version": "1"} for number in range(999)]
    asked = [*queries, {"package": {"name": "stolen", "ecosystem": "PyPI"}, "version": "1.0"}]
    results = post(server, "/v1/querybatch", {"queries": asked}).json()["results"]
    assert results[:-1] == [{}] * 999
    assert results[-1]["vulns"][0]["id"] == "MAL-2026-stolen"


def test_without_a_feed_there_are_no_such_calls(tmp_path):
    with running(tmp_path) as server:
        assert post(server, "/v1/query", {"commit": "x"}).status == 404
        assert "pywharf_advisories{" not in call(f"{server.url}/metrics").body.decode()


def locked_project(folder: Path, server: Server, registry: str, name: str, version: str) -> Path:
    """Write a project whose lock pins one package that this server's repo holds."""
    folder.mkdir()
    file = wheel(folder, name, version)
    body, content_type = form(("content", file.name, file.read_bytes()))
    headers = {"Content-Type": content_type}
    assert call(server.repo(), "POST", auth="demo:demo-write", headers=headers, body=body).status == 200
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    link = server.repo(secret="demo-read") + f"{name}/{file.name}"
    file.unlink()
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "app"\nversion = "0"\nrequires-python = ">=3.11"\ndependencies = ["{name}"]\n'
    )
    (folder / "uv.lock").write_text(
        f"""version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "app"
version = "0"
source = {{ virtual = "." }}
dependencies = [{{ name = "{name}" }}]

[package.metadata]
requires-dist = [{{ name = "{name}" }}]

[[package]]
name = "{name}"
version = "{version}"
source = {{ registry = "{registry}" }}
wheels = [{{ url = "{link}", hash = "sha256:{digest}" }}]
"""
    )
    return folder


def test_uv_refuses_malware_that_this_server_reports(server, computer: Computer, tmp_path):
    """uv checks only what its lock takes from PyPI's own index: docs/advisories.md."""
    env = {"UV_MALWARE_CHECK": "1", "UV_MALWARE_CHECK_URL": server.url}
    registry = DEFAULT_EXTRA_INDEX_URL.rstrip("/")
    stolen = locked_project(tmp_path / "stolen", server, registry, "stolen", "1.0")
    said = computer.run("uv", "sync", "--frozen", cwd=stolen, env=env, fails=True)
    assert "MAL-2026-stolen" in said.text
    assert "Malware detected" in said.text
    other = locked_project(tmp_path / "other", server, registry, "flawed", "1.1")
    computer.run("uv", "sync", "--frozen", cwd=other, env=env)


def test_uv_audit_asks_this_server(server, computer: Computer, tmp_path):
    audit = ("audit", "--frozen", "--preview-features", "audit", "--service-url", server.url)
    for name, version, identifier in (("flawed", "1.0", FLAW["id"]), ("stolen", "1.0", "MAL-2026-stolen")):
        project = locked_project(tmp_path / name, server, server.repo(), name, version)
        assert identifier in computer.run("uv", *audit, cwd=project, fails=True).text
    fixed = locked_project(tmp_path / "fixed", server, server.repo(), "flawed", "1.2")
    computer.run("uv", *audit, cwd=fixed)


def test_pip_audit_asks_this_server(server, computer: Computer, tmp_path):
    pins = tmp_path / "requirements.txt"
    service = ("--vulnerability-service", "osv", "--osv-url", f"{server.url}/v1/query")
    shown = ("--progress-spinner", "off", "--format", "json")
    audit = ("--requirement", pins, "--no-deps", "--disable-pip", *service, *shown)
    pins.write_text("flawed==1.1\nstolen==1.0\nharmless==1\n")
    found = json.loads(computer.run("pip-audit", *audit, fails=True).stdout)
    by_name = {one["name"]: one["vulns"] for one in found["dependencies"]}
    assert [(one["aliases"], one["fix_versions"]) for one in by_name["flawed"]] == [([FLAW["id"]], ["1.2"])]
    assert [one["id"] for one in by_name["stolen"]] == ["MAL-2026-stolen"]
    assert by_name["harmless"] == []
    pins.write_text("flawed==1.2\nharmless==1\n")
    computer.run("pip-audit", *audit)


def test_a_new_entry_about_a_served_file_is_reported(tmp_path):
    """Several workers download the feed once, and one line of the log names the file."""
    with hosting() as host:
        host.content = zipped(ENTRIES)
        flags = [f"--advisories={host.url}", "--advisories_interval=1", "--workers=2"]
        with running(tmp_path, flags) as server:
            wait_for(lambda: knows(server, FLAW["id"]), "the feed")
            file = wheel(tmp_path, "acme", "2.0")
            body, content_type = form(("content", file.name, file.read_bytes()))
            headers = {"Content-Type": content_type}
            assert call(server.repo(), "POST", auth="demo:demo-write", headers=headers, body=body).status == 200
            assert call(f"{server.repo()}acme/{file.name}", auth="demo:demo-read").status == 200
            host.content = zipped([*ENTRIES, malware("acme", "2.0"), malware("never-served")])
            said = f"New advisory MAL-2026-acme: repo demo served {file.name}"
            wait_for(lambda: said in server.text(), "the line of the log")
            wait_for(lambda: metric(server, "pywharf_advisory_hits_total", "malware", "demo") == 1, "the count")
            assert metric(server, "pywharf_advisories", "malware") == 3
            assert metric(server, "pywharf_advisories_timestamp_seconds", "newest entry") == 1767323045
            assert metric(server, "pywharf_advisory_reads_total", "taken") == 2
            assert server.text().count("never-served") == 0
        assert host.answers.count(200) == 2


def test_until_the_first_feed_the_calls_say_so(tmp_path):
    """A server that is not ready for it waits, but not for long: tests/unit/serving/test_repos.py."""
    with hosting() as host:
        host.content, host.hangs = zipped(ENTRIES), True
        with running(tmp_path, [f"--advisories={host.url}"]) as server:
            reply = post(server, "/v1/query", {"package": {"purl": "pkg:pypi/stolen@1.0"}})
            assert (reply.status, reply.json()["type"]) == (503, "urn:pywharf:problem:advisories-not-loaded")
            assert int(reply.header("Retry-After") or 0) >= 1
            assert call(f"{server.url}/readyz").status == 503
            assert call(server.repo(), auth="demo:demo-read").status == 200
