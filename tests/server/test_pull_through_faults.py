"""What a badly behaved index can do to a server that keeps it: fail its own files and pages, and nothing else."""

import dataclasses
import hashlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.distributions.wheels import wheel
from support.ports import free_port
from support.server.calling import Reply
from support.server.index_client import sha256
from support.server.pull_through import CachePlace, Mirror, cache_place, mirror
from support.server.serving import Server, running
from support.server.upstream import JSON, Answer, Upstream, upstream

REPO = "mirror"
PAYLOAD = b"NOISE = " + repr(bytes(range(256)) * 2000).encode()


@pytest.fixture(scope="module")
def index() -> Iterator[Upstream]:
    with upstream() as index:
        yield index


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """Yield an index at which nobody may ask."""
    with upstream() as index:
        yield index
        assert index.requests == [], "a host was asked that nobody configured"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> CachePlace:
    return cache_place(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, index: Upstream, place: CachePlace) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), place.flags, config=mirror(REPO, index.url)) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Mirror:
    return Mirror(server.url, REPO)


@dataclasses.dataclass(frozen=True)
class Offered:
    """A wheel that only one test has."""

    project: str
    path: Path

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()

    @property
    def address(self) -> str:
        """The path below the repo's index."""
        return f"{self.project}/{self.path.name}"


@pytest.fixture
def offered(request: pytest.FixtureRequest, tmp_path: Path, index: Upstream) -> Offered:
    project = "p" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    path = wheel(tmp_path, project, payload=PAYLOAD)
    index.offer(project, path, core_metadata=True, serial=10)
    return Offered(project, path)


def attempt(client: Mirror, path: str) -> Reply | None:
    """Return the response to a GET, or None if the connection broke before its end."""
    try:
        return client.get(path)
    except (http.client.HTTPException, ConnectionError):
        return None


def file_faults(content: bytes, elsewhere: str) -> dict[str, Answer]:
    binary = Answer(content, "application/octet-stream")
    changed = content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]

    def but(**changes: object) -> Answer:
        return dataclasses.replace(binary, **changes)  # type: ignore[arg-type]

    return {
        "another digest": but(body=changed),
        "too long": but(body=content + b"x"),
        "too short": but(body=content[:-1]),
        "empty": but(body=b""),
        "truncated": but(how="cut"),
        "huge": but(how="flood"),
        "compressed without an end": but(how="bomb"),
        "a page of HTML": but(body=b"<h1>Sign in</h1>", content_type="text/html"),
        "redirected elsewhere": but(status=302, headers={"Location": elsewhere}),
        "a server error": but(body=b"", status=500),
        "gone": but(body=b"", status=404),
    }


FILE_FAULTS = list(file_faults(bytes(2000), ""))


@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_a_bad_file_is_never_given_and_never_kept(
    client: Mirror, index: Upstream, elsewhere: Upstream, offered: Offered, fault: str
):
    name = offered.path.name
    listed = client.files(offered.project)[name]
    index.file_answers[name] = file_faults(offered.content, elsewhere.url)[fault]
    for _ in range(2):
        reply = attempt(client, offered.address)
        assert reply is None or reply.status in {502, 504}, reply
    head = client.get(offered.address, "HEAD")
    assert head.status == 200, "a HEAD fetches nothing, so it knows of no fault"

    del index.file_answers[name]
    asked = index.fetched().count(name)
    good = client.get(offered.address)
    assert (good.status, sha256(good.body)) == (200, listed["hashes"]["sha256"])
    assert index.fetched().count(name) == asked + 1, "the bad content was kept"


METADATA_FAULTS = ["another digest", "too long", "truncated", "huge", "compressed without an end", "a server error"]


@pytest.mark.parametrize("fault", METADATA_FAULTS)
def test_bad_metadata_is_never_given(
    client: Mirror, index: Upstream, elsewhere: Upstream, offered: Offered, fault: str
):
    beside = index.files[f"{offered.path.name}.metadata"]
    padded = beside.read_bytes() + b"Keywords: " + b"x" * 2000 + b"\n"
    beside.write_bytes(padded)
    index.offer(offered.project, offered.path, serial=10, fields=_core_metadata(offered, padded))
    index.files[beside.name] = beside
    index.file_answers[beside.name] = file_faults(padded, elsewhere.url)[fault]
    reply = attempt(client, f"{offered.address}.metadata")
    assert reply is None or reply.status in {502, 504}, reply

    del index.file_answers[beside.name]
    good = client.get(f"{offered.address}.metadata")
    assert (good.status, good.body) == (200, padded)


def _core_metadata(offered: Offered, content: bytes) -> dict[str, dict[str, object]]:
    return {offered.path.name: {"core-metadata": {"sha256": sha256(content)}}}


def page_faults(elsewhere: str) -> dict[str, Answer]:
    page = json.dumps({"meta": {"api-version": "1.1"}, "name": "x", "files": []}).encode()
    return {
        "another type": Answer(page, "image/png"),
        "huge": Answer(page[:-2], how="flood"),
        "compressed without an end": Answer(how="bomb"),
        "truncated": Answer(page, how="cut"),
        "no JSON": Answer(b"{" * 50),
        "deep JSON": Answer(b"[" * 200_000),
        "a server error": Answer(b"", status=503),
        "redirected elsewhere": Answer(status=302, headers={"Location": f"{elsewhere}x/"}),
        "redirected in a circle": Answer(status=302, headers={"Location": "./"}),
        "files elsewhere than a URL": Answer(page.replace(b"[]", b'[{"filename": 7, "url": []}]')),
    }


@pytest.mark.parametrize("fault", list(page_faults("")))
def test_a_bad_page_is_an_outage_and_not_an_absence(
    client: Mirror, index: Upstream, elsewhere: Upstream, offered: Offered, fault: str
):
    whole = index.answers[offered.project]
    index.answers[offered.project] = page_faults(elsewhere.url)[fault]
    reply = client.get(f"{offered.project}/")
    assert reply.status in {502, 504}, reply
    assert reply.json()["detail"]

    index.answers[offered.project] = whole
    assert list(client.files(offered.project)) == [offered.path.name], "the fault was remembered"


def test_files_on_a_host_that_is_not_allowed_are_not_fetched(
    client: Mirror, index: Upstream, elsewhere: Upstream, offered: Offered
):
    """The page may name any host; what the server connects to is its own decision."""
    url = elsewhere.url.replace("127.0.0.1", "localhost").replace("/simple/", f"/files/{offered.path.name}")
    index.offer(offered.project, offered.path, serial=10, fields={offered.path.name: {"url": url}})
    reply = attempt(client, offered.address)
    assert reply is not None
    assert reply.status in {404, 502}, reply


def test_a_slow_file_arrives_and_does_not_delay_others(client: Mirror, index: Upstream, offered: Offered):
    name = offered.path.name
    index.file_answers[name] = Answer(offered.content, "application/octet-stream", how="slow")
    good = client.get(offered.address)
    assert (good.status, good.body) == (200, offered.content)
    del index.file_answers[name]


def test_a_part_is_given_while_the_rest_has_not_come(client: Mirror, index: Upstream, offered: Offered):
    index.go_on.clear()
    index.file_answers[offered.path.name] = Answer(offered.content, "application/octet-stream", how="held")
    part = client.get(offered.address, Range="bytes=100-299", timeout_s=20)
    assert (part.status, part.body) == (206, offered.content[100:300])
    assert part.header("Content-Range") == f"bytes 100-299/{len(offered.content)}"
    index.go_on.set()
    whole = client.get(offered.address)
    assert (whole.status, whole.body) == (200, offered.content)
    last = client.get(offered.address, Range="bytes=-7")
    assert (last.status, last.body) == (206, offered.content[-7:])
    assert client.get(offered.address, Range=f"bytes={len(offered.content)}-").status == 416
    assert index.fetched().count(offered.path.name) == 1


def test_head_fetches_nothing_and_says_what_get_says(client: Mirror, index: Upstream, offered: Offered):
    head = client.get(offered.address, "HEAD")
    assert (head.status, head.body, head.header("Content-Length")) == (200, b"", str(len(offered.content)))
    assert offered.path.name not in index.fetched()
    assert client.get(offered.address).body == offered.content
    assert client.get(offered.address, "HEAD").header("Content-Length") == str(len(offered.content))


def test_the_page_says_all_that_the_index_says_and_links_here(client: Mirror, index: Upstream, offered: Offered):
    fields = {
        "yanked": "broken by mistake",
        "provenance": "https://attest.example/x",
        "requires-python": ">=3.9",
        "upload-time": "2026-01-02T03:04:05.000000Z",
    }
    core = _core_metadata(offered, index.files[f"{offered.path.name}.metadata"].read_bytes())
    index.offer(
        offered.project, offered.path, serial=11, fields={offered.path.name: {**fields, **core[offered.path.name]}}
    )
    entry = client.files(offered.project)[offered.path.name]
    assert {key: entry[key] for key in fields} == fields
    assert entry["hashes"] == {"sha256": sha256(offered.content)}
    assert entry["core-metadata"] == core[offered.path.name]["core-metadata"]
    assert (entry["size"], "://" in entry["url"]) == (len(offered.content), False)
    body = client.get(f"{offered.project}/", Accept="text/html").body.decode()
    assert index.url not in body
    assert offered.path.name in body


def test_what_the_index_does_not_have_is_missing(client: Mirror, offered: Offered):
    assert client.get("never-there/").status == 404
    assert client.get(f"{offered.project}/{offered.project}-9.9-py3-none-any.whl").status == 404
    assert client.get(f"{offered.project}/../../etc/passwd").status in {400, 404}


def test_an_index_that_is_away_is_an_outage(tmp_path: Path, place: CachePlace):
    url = f"http://127.0.0.1:{free_port()}/simple/"
    with running(tmp_path, place.flags, config=mirror(REPO, url)) as server:
        reply = Mirror(server.url, REPO).get("never-asked/")
    assert (reply.status, reply.json()["code"]) == (504, "upstream_away"), reply
    assert len(reply.json()["detail"].split()) > 3


def test_a_repo_that_needs_a_cache_is_refused_without_one(tmp_path: Path, index: Upstream):
    config = mirror(REPO, index.url) + mirror("pages", index.url, mode="Pages")
    with running(tmp_path, config=config) as server:
        assert Mirror(server.url, REPO).get("x/").status == 503
        assert Mirror(server.url, "pages").get("never-there/").status == 404
        assert "--cache_config" in server.text()


def test_a_lower_serial_is_ignored(index: Upstream, place: CachePlace, tmp_path: Path, offered: Offered):
    """A mirror of the index that lags behind must not take files away again. Each server asks the index anew."""
    newer = wheel(tmp_path, offered.project, "2.0")
    index.offer(offered.project, offered.path, newer, serial=20)
    config = mirror(REPO, index.url)
    with running(tmp_path / "1", place.flags, config=config) as server:
        both = list(Mirror(server.url, REPO).files(offered.project))
    index.offer(offered.project, offered.path, serial=19)
    with running(tmp_path / "2", place.flags, config=config) as server:
        assert list(Mirror(server.url, REPO).files(offered.project)) == both == [offered.path.name, newer.name]


def test_a_file_that_changes_under_its_name_keeps_its_first_content(
    index: Upstream, place: CachePlace, tmp_path: Path, offered: Offered
):
    first = offered.content
    config = mirror(REPO, index.url)
    with running(tmp_path / "1", place.flags, config=config) as server:
        assert Mirror(server.url, REPO).get(offered.address).body == first
    (tmp_path / "other").mkdir()
    changed = wheel(tmp_path / "other", offered.project, payload=b"VALUE = 'changed'\n")
    index.offer(offered.project, changed, serial=11)
    with running(tmp_path / "2", place.flags, config=config) as server:
        client = Mirror(server.url, REPO)
        assert client.files(offered.project)[changed.name]["hashes"] == {"sha256": sha256(first)}
        assert client.get(offered.address).body == first


def test_a_lost_project_is_missing(index: Upstream, place: CachePlace, tmp_path: Path, offered: Offered):
    """The index removes malware in this way: a kept page must not bring it back."""
    config = mirror(REPO, index.url)
    with running(tmp_path / "1", place.flags, config=config) as server:
        assert Mirror(server.url, REPO).get(offered.address).status == 200
    del index.answers[offered.project]
    with running(tmp_path / "2", place.flags, config=config) as server:
        client = Mirror(server.url, REPO)
        assert client.get(f"{offered.project}/").status == 404
        assert client.get(offered.address).status == 404


def test_the_answers_are_json_and_html(client: Mirror, offered: Offered):
    for accept in (JSON, "text/html"):
        reply = client.get(f"{offered.project}/", Accept=accept)
        assert (reply.status, (reply.header("Content-Type") or "").partition(";")[0]) == (200, accept)
        again = client.get(f"{offered.project}/", Accept=accept, If_None_Match=reply.header("ETag") or "")
        assert again.status == 304
