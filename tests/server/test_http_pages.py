"""Pages of the Simple API over HTTP: formats, caching, redirects. Their content is tested with the core."""

import gzip
import html
import re
from urllib.parse import urljoin

import pytest

from support.distributions.wheels import sdist, wheel
from support.server.calling import ask, call, connect, form
from support.server.serving import Server, running

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
AUTH = "demo:demo-read"
PAGES = ("/repo/demo/simple/", "/simple/", "/repo/demo/simple/big-one/", "/simple/big-one/")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    with running(folder) as server:
        publish(server, wheel(folder, "Big.One", "1.0"))
        for number in range(8):  # large enough to be worth compressing
            publish(server, sdist(folder, "big-one", f"0.{number}"))
        for number in range(20):
            publish(server, wheel(folder, f"another-project-{number}"))
        yield server


def publish(server: Server, *files) -> None:
    for file in files:
        body, content_type = form((":action", "file_upload"), ("content", file.name, file.read_bytes()))
        reply = call(server.repo(), "POST", auth="demo:demo-write", headers={"Content-Type": content_type}, body=body)
        assert reply.status == 200, reply


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/html; charset=utf-8"),
        ("*/*", "text/html; charset=utf-8"),
        ("text/html", "text/html; charset=utf-8"),
        (HTML, HTML),
        (JSON, JSON),
        ("application/vnd.pypi.simple.latest+json", JSON),
        (f"{JSON}, {HTML};q=0.2, text/html;q=0.01", JSON),  # uv and pip
        (f"{JSON};q=0, */*", "text/html; charset=utf-8"),
    ],
)
def test_the_format_follows_accept(server, path, accept, content_type):
    reply = call(server.url + path, auth=AUTH, headers={} if accept is None else {"Accept": accept})
    assert (reply.status, reply.header("Content-Type")) == (200, content_type), reply
    if content_type == JSON:
        assert reply.json()["meta"]["api-version"] == "1.4"
    else:
        assert b'<meta name="pypi:repository-version" content="1.4">' in reply.body


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    ("accept", "status", "says"),
    [
        ("image/png", 406, "text/html"),
        ("application/vnd.pypi.simple.v2+json", 406, JSON),
        ("text/html;q=0", 406, "text/html"),
        ("nonsense", 400, "nonsense"),
        ("text/html;q=7", 400, "q=7"),
        ("*/html", 400, "*/html"),
        ("a/b, " * 1500, 400, "4096"),
    ],
)
def test_an_accept_that_cannot_be_met_says_why(server, path, accept, status, says):
    reply = call(server.url + path, auth=AUTH, headers={"Accept": accept})
    assert reply.status == status, reply
    assert says in html.unescape(reply.body.decode()), reply


@pytest.mark.parametrize("path", PAGES)
def test_a_library_that_asks_for_json_gets_the_default(server, path):
    """`application/json` is not a format of the Simple API (PEP 691)."""
    reply = call(server.url + path, auth=AUTH, headers={"Accept": "application/json"})
    assert (reply.status, reply.header("Content-Type")) == (200, "text/html; charset=utf-8"), reply


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("accept", [JSON, HTML, "text/html"])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_page_is_revalidated_by_its_tag(server, path, accept, encoding):
    headers = {"Accept": accept, "Accept-Encoding": encoding}
    first = call(server.url + path, auth=AUTH, headers=headers)
    tag = first.header("ETag")
    assert first.status == 200
    assert tag is not None
    assert re.fullmatch(r'"[^"]+"', tag), tag
    table = [
        (tag, 304),
        (f"W/{tag}", 304),
        (f'"other", {tag}', 304),
        (f'"other" ,W/"x",  {tag} ', 304),
        ("*", 304),
        ('"other"', 200),
        (tag.strip('"'), 200),
        ("", 200),
        (f'"{tag.strip(chr(34))}-more"', 200),
    ]
    for value, status in table:
        again = call(server.url + path, auth=AUTH, headers={**headers, "If-None-Match": value})
        assert again.status == status, f"If-None-Match: {value}: {again}"
        for name in ("ETag", "Cache-Control", "Vary"):
            assert again.header(name) == first.header(name), f"{name} for If-None-Match: {value}"
        assert again.body == (b"" if status == 304 else first.body)


def test_each_representation_has_a_tag_of_its_own(server):
    """Otherwise, a cache would confuse them."""
    url = f"{server.url}/repo/demo/simple/big-one/"
    tags = {
        (accept, encoding): call(url, auth=AUTH, headers={"Accept": accept, "Accept-Encoding": encoding}).header("ETag")
        for accept in (JSON, "text/html")
        for encoding in ("identity", "gzip")
    }
    assert len(set(tags.values())) == 4, tags


def test_a_tag_changes_with_the_page_and_only_then(server, tmp_path):
    url = f"{server.url}/repo/demo/simple/changing/"
    publish(server, wheel(tmp_path, "changing", "1.0"))
    before = call(url, auth=AUTH).header("ETag")
    publish(server, wheel(tmp_path, "not-changing", "1.0"))
    assert call(url, auth=AUTH).header("ETag") == before
    publish(server, wheel(tmp_path, "changing", "1.1"))
    reply = call(url, auth=AUTH, headers={"If-None-Match": before or ""})
    assert reply.status == 200
    assert reply.header("ETag") != before
    assert b"changing-1.1" in reply.body


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("accept", [JSON, "text/html", "image/png"])
def test_answers_are_private_and_vary(server, path, accept):
    """This includes errors: a cache must not serve one user's error to another."""
    for auth in (AUTH, "demo:wrong-secret"):
        reply = call(server.url + path, auth=auth, headers={"Accept": accept})
        cache_control, vary = reply.header("Cache-Control") or "", reply.header("Vary") or ""
        assert "private" in cache_control or "no-store" in cache_control, reply
        assert {"authorization", "cookie", "accept"} <= {v.strip().lower() for v in vary.split(",")}, reply
        if reply.status == 200:
            assert "accept-encoding" in vary.lower(), reply


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    ("accept_encoding", "zipped"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("gzip;q=1.0", True),
        ("GZIP", True),
        ("*", True),
        ("x-gzip", True),
        ("identity", False),
        ("br", False),
        ("gzip;q=0", False),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("", False),
        ("gzip;q=nonsense", False),
        (",;=,", False),
    ],
)
def test_gzip_only_for_those_who_take_it(server, path, accept_encoding, zipped):
    plain = call(server.url + path, auth=AUTH)
    reply = call(server.url + path, auth=AUTH, headers={"Accept-Encoding": accept_encoding})
    assert reply.status == 200
    assert reply.header("Content-Encoding") == ("gzip" if zipped else None), reply.headers
    assert (gzip.decompress(reply.body) if zipped else reply.body) == plain.body
    assert reply.header("Content-Length") == str(len(reply.body))


@pytest.mark.parametrize("path", [*PAGES, "/repo/demo/simple/missing/", "/repo/demo/simple/Big_One/", "/", "/login"])
@pytest.mark.parametrize("accept_encoding", ["identity", "gzip"])
def test_head_is_get_without_the_body(server, path, accept_encoding):
    headers = {"Accept-Encoding": accept_encoding}
    connection = connect(server.url)
    try:
        got = ask(connection, server.url + path, auth=AUTH, headers=headers)
        head = ask(connection, server.url + path, "HEAD", auth=AUTH, headers=headers)
        after = ask(connection, server.url + path, auth=AUTH, headers=headers)  # still in step
    finally:
        connection.close()
    assert head.body == b""
    assert (head.status, head.reason) == (got.status, got.reason)
    # Each request has an id of its own. A Content-Length of 0 may be omitted if there would be no body anyway.
    sent, wanted = (
        [
            (k, v)
            for k, v in reply.headers.items()
            if k not in {"Date", "X-Request-Id"} and (k, v) != ("Content-Length", "0")
        ]
        for reply in (head, got)
    )
    assert sent == wanted
    assert after.body == got.body


REDIRECTS = [
    ("/simple", "/simple/"),
    ("/simple?x=1&y=%20", "/simple/?x=1&y=%20"),
    ("/repo/demo/simple", "/repo/demo/simple/"),
    ("/repo/demo/simple/big-one", "/repo/demo/simple/big-one/"),
    ("/repo/demo/simple/big-one?a=b", "/repo/demo/simple/big-one/?a=b"),
    ("/repo/demo/simple/Big.One", "/repo/demo/simple/big-one/"),
    ("/repo/demo/simple/Big.One/", "/repo/demo/simple/big-one/"),
    ("/repo/demo/simple/BIG__one/?a=b&c", "/repo/demo/simple/big-one/?a=b&c"),
    ("/repo/Demo/simple/big-.-one/", "/repo/Demo/simple/big-one/"),
    ("/simple/Missing_Project/", "/simple/missing-project/"),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("path", "target"), REDIRECTS)
def test_other_spellings_lead_to_the_page(server, method, path, target):
    """PEP 503. The query is kept. The redirect names no host, because there may be a proxy in front of the server."""
    reply = call(server.url + path, method, auth=AUTH)
    assert reply.status == 301, reply
    assert urljoin(path, reply.header("Location")) == target
    assert "private" in (reply.header("Cache-Control") or "")
    host = server.url.partition("://")[2]
    assert host not in (reply.header("Location") or "")


@pytest.mark.parametrize(
    "path",
    ["/simple/-bad-/", "/simple/na%20me/", "/simple/%E2%82%AC/", "/simple/" + "x" * 250 + "/", "/simple/a%0d%0ab"],
)
def test_an_impossible_project_name_says_what_is_possible(server, path):
    reply = call(server.url + path, auth=AUTH)
    assert reply.status == 400, reply
    assert "ASCII letters" in reply.json()["detail"], reply
    assert "ASCII letters" in reply.reason or len(reply.reason) >= 150, reply


def test_an_unknown_project_is_not_found_in_words(server):
    reply = call(f"{server.url}/simple/missing/", auth=AUTH, headers={"Accept": JSON})
    assert reply.status == 404
    assert "'missing'" in reply.json()["detail"]
