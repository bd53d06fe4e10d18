"""Tests of which hosts a server connects to and how: redirects of an index, allowed endpoints, proxies."""

import contextlib
import http.server
import threading

import pytest

from support.server.calling import call
from support.server.serving import running
from support.server.upstream import Answer, upstream

PAGE = b'<a href="secret-1.0.zip">secret-1.0.zip</a>'


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)


@contextlib.contextmanager
def listening(address="127.0.0.1"):
    """Run a server that answers any request, or any host as a proxy, with a page. `asked` holds the paths."""
    with http.server.ThreadingHTTPServer((address, 0), _Handler) as server:
        server.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def page(server, name):
    return call(f"{server.repo()}{name}/", auth="demo:demo-read")


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(
    "host",
    ["127.0.0.2", "localhost", "127.1", "[::ffff:127.0.0.2]", "2130706434", "0x7f.2", "10.255.255.1", "a.invalid"],
)
def test_a_redirect_leads_to_no_other_host(tmp_path, host, listed):
    with upstream() as index, listening("0.0.0.0") as other:  # noqa: S104 - in the test's own network alone
        flags = [f"--extra_index_url={index.url}"]
        if listed:
            flags.append(f"--allowed_endpoints={index.url.split('/')[2]},*")
        index.answers["x"] = Answer(status=302, headers={"Location": f"http://{host}:{other.server_port}/internal/"})
        with running(tmp_path, flags, env={"HTTP_PROXY": "", "ALL_PROXY": ""}) as server:
            reply = page(server, "x")
        assert reply.status == 502, reply
        assert other.asked == []


def test_a_redirect_leads_to_a_host_that_is_listed(tmp_path):
    with upstream() as index, listening("127.0.0.2") as other:
        where = f"127.0.0.2:{other.server_port}"
        flags = [f"--extra_index_url={index.url}", f"--allowed_endpoints={index.url.split('/')[2]},{where}"]
        index.answers["x"] = Answer(status=302, headers={"Location": f"http://{where}/simple/x/"})
        with running(tmp_path, flags) as server:
            reply = page(server, "x")
        assert reply.status == 200
        assert b"secret-1.0.zip" in reply.body
        assert other.asked == ["/simple/x/"]


def test_an_index_that_is_not_listed_is_not_asked(tmp_path):
    with upstream() as index:
        flags = [f"--extra_index_url={index.url}", "--allowed_endpoints=pypi.org"]
        with running(tmp_path, flags) as server:
            reply = page(server, "x")
        assert reply.status == 502
        assert b"have it added to the allowed endpoints" in reply.body
        assert index.asked("x") == 0


@pytest.mark.parametrize(
    ("no_proxy", "goes_by_proxy"),
    [
        ("", True),
        ("192.0.2.0/24", False),
        ("192.0.3.0/24", True),
        ("192.0.2.7:8080", False),
        ("192.0.2.7:80", True),
        ("*", False),
    ],
)
def test_no_proxy_knows_ranges_and_ports(tmp_path, no_proxy, goes_by_proxy):
    """Without a proxy nothing answers: the address is reserved for documentation."""
    with listening() as proxy:
        env = {
            "HTTP_PROXY": f"http://127.0.0.1:{proxy.server_port}",
            "ALL_PROXY": "",
            "NO_PROXY": no_proxy,
        }
        with running(tmp_path, ["--extra_index_url=http://192.0.2.7:8080/simple/"], env=env) as server:
            reply = page(server, "x")
        assert (reply.status == 200) is goes_by_proxy
        assert proxy.asked == (["http://192.0.2.7:8080/simple/x/"] if goes_by_proxy else [])
