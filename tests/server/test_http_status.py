"""What a server reports about itself: probes, metrics, the time of the index."""

import math
import subprocess
import time
from urllib.parse import urlencode

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.distributions.wheels import wheel
from support.server.calling import Reply, ask, call, connect, form
from support.server.serving import PYWHARF, Server, clean_environment, running
from support.waiting import wait_for

AUTH = "demo:demo-read"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("status")) as server:
        yield server


def samples(reply: Reply) -> dict[tuple[str, ...], float]:
    """Return each sample of /metrics by its name and its label values, ordered by label name."""
    assert reply.status == 200, reply
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }


def update_index(server: Server) -> None:
    command = [PYWHARF, "update_index", "file_system", "demo", f"--root={server.root}"]
    subprocess.run(command, check=True, capture_output=True, env=clean_environment(), timeout=60)


@pytest.mark.parametrize("path", ["/index_mtime/", "/index_mtime"])
def test_index_mtime_needs_the_repos_secret(server, path):
    for auth, status in [
        (None, 401),
        ("demo:wrong-secret", 401),
        ("nobody:x", 401),
        (AUTH, 200),
        ("demo:demo-write", 200),
    ]:
        reply = call(server.url + path, auth=auth)
        assert reply.status == status, reply
        assert (reply.header("WWW-Authenticate") is not None) is (status == 401)
    assert call(server.url + path, "HEAD", auth=AUTH).status == 200


def test_index_mtime_is_the_time_of_the_index(tmp_path):
    """It is returned as text. Before the first index, it is the time of the last check of the storage."""
    with running(tmp_path) as server:
        started = int(time.time()) - 1
        reply = call(f"{server.url}/index_mtime/", auth=AUTH)
        assert reply.header("Content-Type") == "text/plain; charset=utf-8"
        assert "no-store" in (reply.header("Cache-Control") or "")
        assert started - 5 <= int(reply.body) <= time.time() + 1
        file = wheel(tmp_path, "pkg")
        body, content_type = form(("content", file.name, file.read_bytes()))
        headers = {"Content-Type": content_type}
        assert call(server.repo(), "POST", auth="demo:demo-write", headers=headers, body=body).status == 200
        before = int(time.time())
        update_index(server)
        index = server.root / "cache" / "demo" / "storage" / "index.toml"
        written = next(int(line.split("=")[1]) for line in index.read_text().splitlines() if line.startswith("mtime"))
        assert before <= written <= time.time() + 1

        def is_reported() -> bool:
            return int(call(f"{server.url}/index_mtime/", auth=AUTH).body) == written

        wait_for(is_reported, f"/index_mtime/ to say {written}", longest_s=5)
        time_of_read = int(call(f"{server.url}/index_mtime/", auth="other:other-read").body)
        assert time_of_read >= started - 5


def test_healthz_and_readyz(server):
    reply = call(f"{server.url}/healthz")
    assert (reply.status, reply.body) == (200, b"ok\n")
    reply = call(f"{server.url}/readyz")
    assert reply.status == 200
    report = reply.json()
    assert len(report.pop("config")) == 64
    assert report == {"ready": True, "repos": 2, "loading": 0, "failing": 0}
    assert call(f"{server.url}/readyz", "HEAD").status == 200


def test_a_repo_whose_storage_fails_leaves_the_server_ready(tmp_path):
    """The other repos are served. The broken one returns 503 to its own clients."""
    blocked = tmp_path / "root" / "cache" / "other"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where the repo's folder should be")
    with running(tmp_path) as server:
        reply = call(f"{server.url}/readyz")
        assert reply.status == 200, reply
        assert reply.json()["failing"] == 1
        assert call(f"{server.url}/simple/", auth=AUTH).status == 200
        reply = call(f"{server.url}/simple/", auth="other:other-read")
        assert reply.status == 503, reply
        assert reply.header("Retry-After")
        assert "not loaded" in reply.json()["detail"]
        assert str(tmp_path) not in reply.body.decode()
        assert samples(call(f"{server.url}/metrics"))["pywharf_index_synchronised", "other"] == 0
        assert "Repo other: its index cannot be synchronised" in server.text()
        blocked.unlink()
        wait_for(lambda: call(f"{server.url}/simple/", auth="other:other-read").status == 200, "the repo to recover")
        wait_for(lambda: call(f"{server.url}/readyz").json()["failing"] == 0, "readyz to notice", longest_s=5)
        assert "Repo other: its index is synchronised again" in server.text()


def test_metrics_count_what_happened(tmp_path):
    with running(tmp_path) as server:
        server.secrets |= {"demo-read", "hidden-secret"}
        for _ in range(3):
            assert call(f"{server.url}/simple/", auth=AUTH).status == 200
        assert call(f"{server.url}/simple/", auth="demo:hidden-secret").status == 401
        assert call(f"{server.url}/simple/missing/", auth=AUTH).status == 404
        assert call(f"{server.url}/nowhere", "PROPFIND").status == 404
        file = wheel(tmp_path, "counted")
        body, content_type = form(("content", file.name, file.read_bytes()))
        headers = {"Content-Type": content_type}
        (tmp_path / "other").mkdir()
        other = form(("content", file.name, wheel(tmp_path / "other", "counted", payload=b"OTHER = 1\n").read_bytes()))
        for status, (sent, kind) in ((200, (body, content_type)), (409, other)):
            headers = {"Content-Type": kind}
            reply = call(server.repo(), "POST", auth="demo:demo-write", headers=headers, body=sent)
            assert reply.status == status
        reply = call(f"{server.url}/metrics")
        assert (reply.header("Content-Type") or "").startswith("text/plain; version=")
        found = samples(reply)
        expected = {
            ("pywharf_http_requests_total", "GET", "root", "200"): 3,
            ("pywharf_http_requests_total", "GET", "root", "401"): 1,
            ("pywharf_http_requests_total", "GET", "project", "404"): 1,
            ("pywharf_http_requests_total", "OTHER", "none", "404"): 1,
            ("pywharf_http_requests_total", "POST", "upload", "200"): 1,
            ("pywharf_http_requests_total", "POST", "upload", "409"): 1,
            ("pywharf_uploads_total", "demo", "published"): 1,
            ("pywharf_uploads_total", "demo", "file-exists"): 1,
            ("pywharf_config_valid",): 1,
            ("pywharf_index_synchronised", "demo"): 1,
            ("pywharf_index_synchronised", "other"): 1,
            ("pywharf_http_request_seconds_count", "root"): 4,
        }
        assert {key: found.get(key) for key in expected} == expected, reply.body.decode()
        assert all(not math.isnan(value) for value in found.values())
        for secret in ("demo-read", "demo-write", "other-read", "hidden-secret"):
            assert secret.encode() not in reply.body


def test_metrics_do_not_grow_with_what_strangers_ask(server):
    """Strangers' paths, names and methods do not become labels."""

    def names() -> set[tuple[str, ...]]:
        return set(samples(call(f"{server.url}/metrics")))

    def ask_around(number: int) -> None:
        for target in (f"/{number}", f"/repo/r{number}/simple/", f"/simple/p{number}/", f"/simple/p/{number}.whl"):
            call(server.url + target)
            call(server.url + target, auth=AUTH)
            call(server.url + target, "MKCOL")
        body = urlencode({"pkg_repo_name": f"r{number}", "pkg_repo_secret_raw": "x"}).encode()
        call(f"{server.url}/login", "POST", headers={"Content-Type": "application/x-www-form-urlencoded"}, body=body)

    ask_around(0)
    names()
    before = names()
    for number in range(1, 10):
        ask_around(number)
    assert names() == before


def answered_roots(server: Server) -> float:
    return samples(call(f"{server.url}/metrics")).get(("pywharf_http_requests_total", "GET", "root", "200"), 0)


def test_metrics_of_several_workers_are_summed(tmp_path):
    with running(tmp_path, ["--workers=3"]) as server:
        # A starting worker exports its gauge before it has reported that its configuration is valid.
        wait_for(lambda: server.text().count("Serving on") == 3, "three workers")
        asked = 0
        for _ in range(12):  # any worker may accept the connection
            connection = connect(server.url)
            try:
                for _ in range(5):
                    assert ask(connection, f"{server.url}/simple/", auth=AUTH).status == 200
                    asked += 1
            finally:
                connection.close()
        for _ in range(6):  # a request is counted just after its response, so another worker may not see the count yet
            wait_for(lambda: answered_roots(server) == asked, f"{asked} requests to be counted", longest_s=5)
            found = samples(call(f"{server.url}/metrics"))
            assert found["pywharf_config_valid",] == 1
            assert found["pywharf_index_synchronised", "demo"] == 1


def test_metrics_of_a_worker_that_ended_stay_counted(tmp_path):
    with running(tmp_path, ["--workers=2"], env={"TMPDIR": str(tmp_path)}) as server:
        for _ in range(10):
            assert call(f"{server.url}/simple/", auth=AUTH).status == 200
        wait_for(lambda: answered_roots(server) == 10, "10 requests to be counted", longest_s=5)
        workers = {child.pid for child in psutil.Process(server.process.pid).children()}
        assert len(workers) == 2
        # A worker that ends just as it creates a file for its counters leaves that file empty.
        counters = next(tmp_path.glob("pywharf-*/metrics/counter_*.db"))
        counters.with_name("counter_1.db").touch()
        psutil.Process(min(workers)).kill()

        def replaced() -> bool:
            now = {c.pid for c in psutil.Process(server.process.pid).children()}
            return len(now) == 2 and now != workers

        wait_for(replaced, "another worker")
        assert "another is started" in server.text()
        for _ in range(6):
            wait_for(lambda: call(f"{server.url}/simple/", auth=AUTH).status == 200, "the new worker to serve")
        wait_for(lambda: answered_roots(server) >= 16, "the ended worker's requests to stay counted", longest_s=5)


def test_a_server_without_repos_is_ready(tmp_path):
    with running(tmp_path, config="") as server:
        assert call(f"{server.url}/readyz").status == 200
        assert call(f"{server.url}/simple/", auth=AUTH).status == 401
