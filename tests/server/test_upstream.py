"""The extra index: which names are requested there, what its pages become, and what it cannot do to this server."""

import gzip
import hashlib
import html.parser
import json
import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.distributions.wheels import sdist, wheel
from support.ports import free_port
from support.server.calling import Reply, call, form
from support.server.metrics import metric
from support.server.serving import Server, running
from support.server.upstream import HTML, JSON, Answer, upstream
from support.waiting import wait_for

CONFIG = """
[demo]
type = "file_system"
read_secret = "demo-read"
write_secret = "demo-write"

[careful]
type = "file_system"
read_secret = "careful-read"
write_secret = "careful-write"
upstream = {{ reserved = ["acme-*", "Internal.Tool"] }}

[shadowing]
type = "file_system"
read_secret = "shadowing-read"
write_secret = "shadowing-write"
upstream = {{ reserved = ["acme-*"], allow_shadowing = ["shadowed", "acme-public"] }}

[alone]
type = "file_system"
read_secret = "alone-read"
write_secret = "alone-write"
upstream = {{ mode = "None" }}

[elsewhere]
type = "file_system"
read_secret = "elsewhere-read"
write_secret = "elsewhere-write"
upstream = {{ url = "{elsewhere}" }}
"""
SIMPLE_HTML = "application/vnd.pypi.simple.v1+html"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    with upstream() as index:
        yield index
        given = {name.lower() for asked in index.requests for name in asked.headers}
        assert not given & {"authorization", "cookie"}, "the extra index was sent credentials"


@pytest.fixture(scope="module")
def elsewhere():
    with upstream() as index:
        yield index


@pytest.fixture(scope="module")
def server(tmp_path_factory, index, elsewhere):
    folder = tmp_path_factory.mktemp("upstream")
    config = CONFIG.format(elsewhere=elsewhere.url)
    with running(folder, [f"--extra_index_url={index.url}"], config=config) as server:
        yield server


def page(server: Server, project: str, accept=JSON, repo="demo", **headers: str) -> Reply:
    given = {"Accept": accept, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return call(f"{server.repo(repo)}{project}/", auth=f"{repo}:{repo}-read", headers=given)


def publish(server: Server, file: Path, repo="demo") -> None:
    body, content_type = form(("content", file.name, file.read_bytes()))
    headers = {"Content-Type": content_type}
    reply = call(server.repo(repo), "POST", auth=f"{repo}:{repo}-write", headers=headers, body=body)
    assert reply.status == 200, reply


class Links(html.parser.HTMLParser):
    """The links of a page: their attributes, with the text as `text`."""

    def __init__(self, page_body: bytes) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self._open = False
        self.feed(page_body.decode())
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag == "a":
            self.found.append({**dict(attrs), "text": ""})
            self._open = True

    def handle_endtag(self, tag):
        self._open = self._open and tag != "a"

    def handle_data(self, data):
        if self._open:
            self.found[-1]["text"] = f"{self.found[-1]['text']}{data}"


def offered(reply: Reply) -> list[str | None]:
    """Return the file names on a project's page of either format, in the page's order."""
    if reply.header("Content-Type") == JSON:
        return [file["filename"] for file in reply.json()["files"]]
    return [link["text"] for link in Links(reply.body).found]


@pytest.mark.parametrize("theirs", [(JSON, HTML), (HTML,)])
@pytest.mark.parametrize("accept", [JSON, SIMPLE_HTML, "text/html", "*/*"])
def test_an_unknown_project_gets_the_page_of_the_extra_index(server, index, tmp_path, theirs, accept):
    """It has the format that the client asks for, whatever the extra index sends. Its links lead to the extra index."""
    project = f"public-{len(theirs)}-{len(accept)}"
    files = [wheel(tmp_path, project, "1.0"), sdist(tmp_path, project, "2.0")]
    index.offer(project, *files, formats=theirs)
    reply = page(server, project, accept)
    assert reply.status == 200, reply
    assert (reply.header("Content-Type") or "").partition(";")[0] == ("text/html" if accept == "*/*" else accept)
    assert {"authorization", "cookie", "accept"} <= set((reply.header("Vary") or "").lower().split(", "))
    base = index.url.replace("/simple/", "/files/")
    digests = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    if accept == JSON:
        shown = reply.json()
        assert shown["name"] == project
        assert {f["filename"]: f["url"] for f in shown["files"]} == {f.name: base + f.name for f in files}
        assert {f["filename"]: f["hashes"]["sha256"] for f in shown["files"]} == digests
        assert all(f["requires-python"] == ">=3.8" for f in shown["files"])
        if JSON in theirs:
            assert shown["meta"]["api-version"] == "1.4"
            assert shown["versions"] == ["1.0", "2.0"]
            assert {f["filename"]: f["size"] for f in shown["files"]} == {f.name: f.stat().st_size for f in files}
            assert all(f["upload-time"] for f in shown["files"])
        else:  # without sizes, the page cannot be of version 1.1 or later (PEP 700)
            assert shown["meta"]["api-version"] == "1.0"
    else:
        links = Links(reply.body).found
        assert {a["text"]: a["href"] for a in links} == {
            f.name: f"{base}{f.name}#sha256={digests[f.name]}" for f in files
        }
        assert all(a["data-requires-python"] == ">=3.8" for a in links)
        assert call((links[0]["href"] or "").partition("#")[0]).body == files[0].read_bytes()


def test_its_page_is_cached_revalidated_and_asked_for_once(server, index, tmp_path):
    index.offer("popular", wheel(tmp_path, "popular"))
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: page(server, "popular"), range(20)))
    assert {reply.status for reply in replies} == {200}
    tag = replies[0].header("ETag") or ""
    assert page(server, "popular", If_None_Match=tag).status == 304
    assert page(server, "popular", "text/html").status == 200
    zipped = page(server, "popular", Accept_Encoding="gzip")
    assert zipped.header("Content-Encoding") in {"gzip", None}
    head = call(f"{server.repo()}popular/", "HEAD", auth="demo:demo-read", headers={"Accept": JSON})
    assert (head.status, head.body, head.header("ETag")) == (200, b"", tag)
    assert index.asked("popular") == 1
    assert page(server, "Popular").status == 301
    assert call(f"{server.url}/simple/popular/", auth="demo:demo-read").status == 200
    # Another repo serves the same page. Files of the extra index are not served by a repo itself.
    assert page(server, "popular", repo="careful").status == 200
    name = replies[0].json()["files"][0]["filename"]
    assert call(f"{server.repo()}popular/{name}", auth="demo:demo-read").status == 404


def test_what_it_is_sent(server, index, tmp_path):
    """It gets the project's name and the accepted formats, but nothing from the client."""
    index.offer("asked-for", wheel(tmp_path, "asked-for"))
    page(server, "asked-for", "text/html", User_Agent="pip/1", Cookie="pywharf_session=x", X_Secret="y")
    asked = next(r for r in index.requests if "asked-for" in r.path)
    assert asked.path == "/simple/asked-for/"
    assert re.fullmatch(r"pywharf/\S+", asked.headers["User-Agent"])
    assert asked.headers["Accept"].startswith(JSON)
    assert set(map(str.lower, asked.headers)) <= {"host", "accept", "accept-encoding", "user-agent", "connection"}


def test_strangers_cannot_make_it_ask(server, index):
    for auth in (None, "demo:wrong-secret", "nobody:x"):
        assert call(f"{server.repo()}stranger/", auth=auth).status == 401
    assert index.asked("stranger") == 0


@pytest.mark.parametrize("repo", ["demo", "careful", "shadowing"])
def test_an_owned_name_is_never_looked_up(server, index, tmp_path, repo):
    """The versions that the other index has do not matter."""
    project = f"owned-by-{repo}"
    own = wheel(tmp_path, project, "1.0")
    publish(server, own, repo)
    (tmp_path / "theirs").mkdir()
    index.offer(project, wheel(tmp_path / "theirs", project, "9.0"))
    for accept in (JSON, "text/html"):
        assert offered(page(server, project, accept, repo)) == [own.name]
    for spelling in (project.upper(), project.replace("-", "_"), project.replace("-", ".-_")):
        assert page(server, spelling, repo=repo).status == 301
    assert call(f"{server.repo(repo)}{project}/missing-2.0.tar.gz", auth=f"{repo}:{repo}-read").status == 404
    assert index.asked(project) == 0


@pytest.mark.parametrize(
    ("repo", "project", "looked_up"),
    [
        ("careful", "acme-secret", False),
        ("careful", "acme-", False),
        ("careful", "internal-tool", False),
        ("careful", "internal-tool2", True),
        ("careful", "acme", True),
        ("careful", "not-acme-x", True),
        ("shadowing", "acme-secret", False),
        ("shadowing", "acme-public", True),
        ("alone", "anything", False),
    ],
)
def test_reserved_names_are_never_looked_up(server, index, tmp_path, repo, project, looked_up):
    if project.endswith("-"):
        project += "9"
    index.offer(project, wheel(tmp_path, project, "9.0"))
    before = index.asked(project)
    reply = page(server, project, repo=repo)
    assert reply.status == (200 if looked_up else 404), reply
    assert (index.asked(project) > before) is looked_up


def test_a_name_that_may_be_shadowed_has_the_files_of_both(server, index, tmp_path):
    """If both have a file of the same name, the repo's own is served."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    own = wheel(tmp_path, "shadowed", "1.0", payload=b"OWN = 1\n")
    publish(server, own, "shadowing")
    index.offer("shadowed", wheel(theirs, "shadowed", "1.0", payload=b"THEIRS = 1\n"), wheel(theirs, "shadowed", "9.0"))
    shown = page(server, "shadowed", repo="shadowing").json()
    found = {f["filename"]: f for f in shown["files"]}
    assert sorted(found) == ["shadowed-1.0-py3-none-any.whl", "shadowed-9.0-py3-none-any.whl"]
    assert found[own.name]["hashes"]["sha256"] == hashlib.sha256(own.read_bytes()).hexdigest()
    assert "://" not in found[own.name]["url"]
    assert found["shadowed-9.0-py3-none-any.whl"]["url"].startswith(index.url.replace("/simple/", "/files/"))
    links = Links(page(server, "shadowed", "text/html", "shadowing").body).found
    assert links[0]["text"] == own.name
    got = call(f"{server.repo('shadowing')}shadowed/{own.name}", auth="shadowing:shadowing-read")
    assert got.body == own.read_bytes()
    # While the other index is down, the repo's own files can still be downloaded by name.
    index.answers["shadowed"] = Answer(status=500)
    assert call(f"{server.repo('shadowing')}shadowed/{own.name}", auth="shadowing:shadowing-read").status == 200


def test_a_repo_may_name_another_index(server, index, elsewhere, tmp_path):
    first, second = (wheel(tmp_path, "both-have-it", version) for version in ("1.0", "2.0"))
    index.offer("both-have-it", first)
    elsewhere.offer("both-have-it", second)
    assert offered(page(server, "both-have-it")) == [first.name]
    assert offered(page(server, "both-have-it", repo="elsewhere")) == [second.name]
    assert offered(page(server, "both-have-it")) == [first.name]


def test_a_name_that_only_another_replica_knows_yet_is_never_looked_up(tmp_path, index):
    """The storage itself is checked before the other index is asked."""
    flags = [f"--extra_index_url={index.url}"]
    with running(tmp_path / "a", flags) as first, running(tmp_path / "b", flags, root=first.root) as second:
        for number in range(6):
            project = f"replicated-{number}"
            (tmp_path / "theirs").mkdir(exist_ok=True)
            index.offer(project, wheel(tmp_path / "theirs", project, "9.0"))
            own = wheel(tmp_path, project, "1.0")
            publish(first, own)
            assert offered(page(second, project)) == [own.name]
            assert index.asked(project) == 0


def test_while_the_index_is_not_loaded_nothing_is_said_about_a_name(tmp_path, index):
    index.offer("early", wheel(tmp_path, "early"))
    blocked = tmp_path / "root" / "cache" / "demo"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where the repo's folder should be")
    with running(tmp_path, [f"--extra_index_url={index.url}"]) as server:
        reply = page(server, "early")
        assert reply.status == 503, reply
        assert reply.header("Retry-After")
        assert index.asked("early") == 0
        blocked.unlink()
        wait_for(lambda: page(server, "early").status == 200, "the index to be loaded")


@pytest.mark.parametrize("way", ["flag", "environment", "unset in the repo"])
def test_an_empty_value_switches_it_off(tmp_path, index, way):
    index.offer("off", wheel(tmp_path, "off"))
    name = "PYWHARF_COMMAND_EXTRA_INDEX_URL"
    flags, env, config = {
        "flag": (["--extra-index-url="], {name: index.url}, ""),
        "environment": ([], {name: ""}, ""),
        "unset in the repo": ([f"--extra_index_url={index.url}"], {}, 'upstream = {mode = "None"}\n'),
    }[way]
    table = f'[demo]\ntype = "file_system"\nread_secret = "demo-read"\n{config}'
    with running(tmp_path, flags, config=table, env=env) as server:
        before = index.asked("off")
        assert page(server, "off").status == 404
        assert index.asked("off") == before


def pages(*files: Mapping[str, object], **more: object) -> bytes:
    return json.dumps({"meta": {"api-version": "1.1"}, "name": "x", "files": list(files), **more}).encode()


ENTRY = {"filename": "x-1.0.tar.gz", "url": "x-1.0.tar.gz", "hashes": {}}
BOMB = gzip.compress(bytes(300 * 1024 * 1024), 9)
# What happens at the extra index, its response, this server's status, a pattern of the error message
FAILURES = {
    "nothing there": (Answer(status=404), 404, "no project"),
    "gone": (Answer(status=410), 404, "no project"),
    "an error": (Answer(status=500), 502, "status 500"),
    "overloaded": (Answer(status=503), 502, "status 503"),
    "too many requests": (Answer(status=429), 502, "status 429"),
    "not allowed": (Answer(status=403), 502, "status 403"),
    "wants credentials": (Answer(status=401, headers={"WWW-Authenticate": "Basic realm=x"}), 502, "status 401"),
    "another type": (Answer(b"%PDF", "application/pdf"), 502, "application/pdf"),
    "no type": (Answer(b"x", ""), 502, "no Simple API page|octet"),
    "a type of noise": (Answer(b"x", ";;;"), 502, "no Simple API page|octet"),
    "no JSON": (Answer(b"{"), 502, "not a Simple API page"),
    "JSON of another shape": (Answer(b"[]"), 502, "not a Simple API page"),
    "files without names": (Answer(pages({"url": "x"})), 502, "not a Simple API page"),
    "a size that is none": (Answer(pages({**ENTRY, "size": "big"})), 502, "not a Simple API page"),
    "deep JSON": (Answer(b'{"files": ' + b"[" * 200_000), 502, "not a Simple API page"),
    "version 2": (Answer(pages(meta={"api-version": "2.0"})), 502, "2.0"),
    "empty": (Answer(b""), 502, "not a Simple API page"),
    "not UTF-8": (Answer(b'{"files": ["\xff"]}'), 502, "not a Simple API page"),
    "a redirect to itself": (Answer(status=302, headers={"Location": "/simple/x/"}), 502, "more than 5 times"),
    "a redirect to a file": (Answer(status=302, headers={"Location": "file:///etc/passwd"}), 502, "http"),
    "a redirect to nowhere": (
        Answer(status=302, headers={"Location": "http://["}),
        502,
        "redirects to an address|cannot be read",
    ),
    "a redirect without a place": (Answer(status=302), 502, "status 302|cannot be read"),
    "a body cut off": (Answer(pages() * 100, how="cut"), 502, "cannot be read"),
    "a huge page": (Answer(b"<html>", HTML, how="flood"), 502, "over 67108864 bytes"),
    "a bomb": (Answer(BOMB, HTML, headers={"Content-Encoding": "gzip"}), 502, "over 67108864 bytes|cannot be read"),
    "gzip that is none": (Answer(b"nonsense", HTML, headers={"Content-Encoding": "gzip"}), 502, "cannot be read"),
}


@pytest.mark.parametrize("what", FAILURES)
def test_what_cannot_be_used_is_a_clear_error(server, index, what):
    answer, status, says = FAILURES[what]
    project = "failing-" + re.sub(r"[^a-z0-9]+", "-", what.lower())
    if "Location" in answer.headers:
        location = answer.headers["Location"].replace("/simple/x/", f"/simple/{project}/")
        answer = Answer(status=answer.status, headers={"Location": location})
    index.answers[project] = answer
    begun = time.monotonic()
    reply = page(server, project)
    assert time.monotonic() - begun < 12
    assert reply.status == status, reply
    assert re.search(says, reply.json()["detail"]), reply
    assert "no-store" in (reply.header("Cache-Control") or "")
    assert "root:" not in reply.body.decode()
    # Failures are not cached.
    if status == 502:
        index.answers[project] = Answer(pages(ENTRY))
        assert page(server, project).status == 200


def test_an_index_that_is_not_there(tmp_path):
    with running(tmp_path, [f"--extra_index_url=http://127.0.0.1:{free_port()}/simple"]) as server:
        reply = page(server, "x")
        assert reply.status == 502, reply
        assert "--extra_index_url" in reply.json()["detail"]
        assert metric(server, "pywharf_upstream_requests_total", "failed") == 1
        publish(server, wheel(tmp_path, "own"))
        assert page(server, "own").status == 200


def test_an_index_that_answers_in_no_time_holds_nobody_up(server, index, tmp_path):
    """Many look-ups that hang or drip end within 25 s. Meanwhile, all other requests are as fast as ever."""
    publish(server, wheel(tmp_path, "own"))
    for number in range(40):
        index.answers[f"hanging-{number}"] = Answer(how="hang")
    for number in range(4):
        index.answers[f"dripping-{number}"] = Answer(content_type=HTML, how="drip")
    slow = [f"dripping-{n}" for n in range(4)] + [f"hanging-{n}" for n in range(40)]
    done = threading.Event()
    slowest = [0.0]

    def ask_on() -> int:
        asked = 0
        while not done.is_set():
            begun = time.monotonic()
            for reply in (page(server, "own"), call(server.repo("alone"), auth="alone:alone-read")):
                assert reply.status == 200, reply
            slowest[0] = max(slowest[0], time.monotonic() - begun)
            asked += 1
            time.sleep(0.05)
        return asked

    begun = time.monotonic()
    with ThreadPoolExecutor(len(slow) + 1) as pool:
        others = pool.submit(ask_on)
        replies = list(pool.map(lambda project: page(server, project), slow))
        took = time.monotonic() - begun
        done.set()
        assert others.result() > 10
    assert {reply.status for reply in replies} == {504}, [str(r) for r in replies if r.status != 504]
    assert all("did not answer in time" in reply.json()["detail"] for reply in replies)
    assert took < 25, f"it took {took:.1f} s"
    assert slowest[0] < 3, f"another request took {slowest[0]:.1f} s"
    index.offer("after", wheel(tmp_path, "after"))
    assert page(server, "after").status == 200


STRANGE = b"""<!DOCTYPE html><html><head><base href="../../other/">
<meta name="pypi:project-status" content="archived"></head><body>
<a href="relative-1.0.tar.gz#sha256=%s">relative-1.0.tar.gz</a>
<a href="http://files.example/a%%20b/abs-1.0.tar.gz" data-yanked="bad &quot;reason&quot;">abs</a>
<a href="javascript:alert(1)">script-1.0.tar.gz</a>
<a href="file:///etc/passwd">file-1.0.tar.gz</a>
<a href="data:text/html,x">data-1.0.tar.gz</a>
<a href="http://[/broken-1.0.tar.gz">broken</a>
<a href="x%%22%%3E%%3Cscript%%3E-1.0.tar.gz" data-requires-python="&gt;=3&lt;script&gt;">x</a>
<a>no href</a>
<a href="w-1.0-py3-none-any.whl#md5=abc" data-dist-info-metadata="true">w</a>
</body></html>""" % (b"A" * 64)


@pytest.mark.parametrize("accept", ["text/html", JSON])
def test_links_lead_where_they_said_and_nothing_else_comes_through(server, index, accept):
    index.answers["strange"] = Answer(STRANGE, "text/html; charset=utf-8")
    reply = page(server, "strange", accept)
    assert reply.status == 200, reply
    base = index.url.replace("/simple/", "/other/")
    if accept == JSON:
        found = {f["filename"]: f for f in reply.json()["files"]}
        urls = {name: f["url"] for name, f in found.items()}
        assert found["abs-1.0.tar.gz"]["yanked"] == 'bad "reason"'
        assert found["w-1.0-py3-none-any.whl"]["core-metadata"] is True
        assert found["relative-1.0.tar.gz"]["hashes"] == {"sha256": "a" * 64}
    else:
        links = Links(reply.body).found
        urls = {a["text"]: (a["href"] or "").partition("#")[0] for a in links}
        assert b"<script" not in reply.body
        assert b'content="archived"' in reply.body
        assert "#sha256=" + "a" * 64 in next(a["href"] or "" for a in links if a["text"] == "relative-1.0.tar.gz")
    assert urls.pop('x"><script>-1.0.tar.gz').startswith(base)
    assert {name: url.partition("#")[0] for name, url in urls.items()} == {
        "relative-1.0.tar.gz": base + "relative-1.0.tar.gz",
        "abs-1.0.tar.gz": "http://files.example/a%20b/abs-1.0.tar.gz",
        "w-1.0-py3-none-any.whl": base + "w-1.0-py3-none-any.whl",
    }


def test_it_may_redirect_to_its_page(server, index, tmp_path):
    """Links are then relative to the address where the page was found."""
    index.offer("moved-to", wheel(tmp_path, "moved-to"))
    index.answers["moved"] = Answer(status=301, headers={"Location": "../moved-to/"})
    shown = page(server, "moved").json()
    assert [f["url"] for f in shown["files"]] == [
        index.url.replace("/simple/", "/files/") + "moved_to-1.0-py3-none-any.whl"
    ]


@pytest.mark.parametrize("base", ["{}", "{}/", "{}//"])
def test_the_flag_may_end_in_a_slash_or_not(tmp_path, index, base):
    index.offer("slash", wheel(tmp_path, "slash"))
    url = base.format(index.url.rstrip("/"))
    with running(tmp_path, [f"--extra_index_url={url}"]) as server:
        assert page(server, "slash").status == 200


def test_metrics_show_how_lookups_end(tmp_path):
    with upstream() as index, running(tmp_path, [f"--extra_index_url={index.url}"]) as server:
        index.offer("good", wheel(tmp_path, "good"))
        index.answers["bad"] = Answer(how="cut", body=b"x" * 100)
        assert [page(server, p).status for p in ("good", "bad", "missing")] == [200, 502, 404]
        assert metric(server, "pywharf_upstream_requests_total", "answered") == 2
        assert metric(server, "pywharf_upstream_requests_total", "failed") == 1
