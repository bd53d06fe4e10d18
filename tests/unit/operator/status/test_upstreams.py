"""Whether the indexes that a repo depends on answer, by what replicas say."""

from typing import Any

import msgspec
import pytest

from pywharf.config.repo_config import FileSystemSpec, Upstream
from pywharf.core.reports import FailingSource
from pywharf_operator.render import Finding, RepoVerdict
from pywharf_operator.spec import API_VERSION, PackageRepo, PackageServer
from pywharf_operator.status.programmed import ReplicaReport, too_old
from pywharf_operator.status.upstreams import needs_newer, next_look_s, upstream_reachable, watched_urls

A, B, DEFAULT = "https://a.example/simple/", "https://b.example/simple/", "https://mirror.example/simple/"
FINE = Finding(status=True, reason="Fine", message="Fine.")


def made(kind: type, spec: dict[str, Any]) -> Any:
    metadata = {"name": "a", "namespace": "ml"}
    return msgspec.convert({"apiVersion": API_VERSION, "kind": kind.__name__, "metadata": metadata, "spec": spec}, kind)


SERVER = made(PackageServer, {"upstream": {"url": DEFAULT}})


def repo(**upstream: Any) -> RepoVerdict:
    spec = FileSystemSpec(upstream=msgspec.convert(upstream, Upstream))
    resource = made(PackageRepo, {"backend": {"fileSystem": {}}})
    return RepoVerdict(repo=resource, accepted=FINE, secrets_resolved=FINE, spec=spec)


def replica(*failing: tuple[str, int, int], reached: bool = True) -> ReplicaReport:
    found = tuple(FailingSource(*one) for one in failing)
    return ReplicaReport(pod="p", digest="a", broken={}, failure=None, upstreams=found, reached=reached)


BOTH = {"mode": "Cached", "sources": [{"url": A}, {"url": B}]}


@pytest.mark.parametrize(
    ("upstream", "urls"),
    [
        ({}, ()),
        ({"url": A}, ()),
        ({"mode": "None", "sources": [{"url": A}]}, ()),
        ({"mode": "Cached"}, (DEFAULT,)),
        ({"mode": "Cached", "url": A}, (A,)),
        ({"sources": [{"url": A}]}, (A,)),
        (BOTH, (A, B)),
    ],
)
def test_which_indexes_a_repo_depends_on(upstream, urls):
    assert watched_urls(repo(**upstream), SERVER) == urls
    assert (upstream_reachable(repo(**upstream), SERVER, [replica()]) is None) == (not urls)


LONG, SHORT = (A, 1000, 1300), (A, 1000, 1299)


@pytest.mark.parametrize(
    ("reports", "status"),
    [
        ([], None),
        ([replica(LONG, reached=False)], None),
        ([replica()], True),
        ([replica(LONG)], False),
        ([replica(SHORT)], True),
        ([replica(LONG), replica()], True),
        ([replica(LONG), replica(LONG)], False),
        ([replica(LONG), replica(reached=False)], False),
        ([replica(("https://c.example/", 1, 1000))], True),
        ([replica((A, 1000, 0))], True),
    ],
)
def test_an_index_is_away_if_every_replica_says_so(reports, status):
    found = upstream_reachable(repo(**BOTH), SERVER, reports)
    assert found is not None
    assert found.status is status
    if status is False:
        assert found.reason == "UpstreamAway"
        assert A in found.message
        assert B not in found.message


def test_what_goes_on_meanwhile_depends_on_the_mode():
    cached, pages = (
        upstream_reachable(repo(**BOTH | {"mode": mode}), SERVER, [replica(LONG)]) for mode in ("Cached", "Pages")
    )
    assert cached is not None
    assert pages is not None
    assert "What the cache holds is served" in cached.message
    assert "get an error" in pages.message


def test_the_message_is_bounded():
    urls = [f"https://{number}.example/" for number in range(16)]
    many = repo(mode="Cached", sources=[{"url": url} for url in urls])
    found = upstream_reachable(many, SERVER, [replica(*((url, 0, 301) for url in urls))])
    assert found is not None
    assert ", https://2.example/ and 13 more. " in found.message


def test_replicas_are_asked_again_only_about_what_repos_depend_on():
    assert next_look_s([repo()], SERVER, [replica(LONG)]) is None
    quiet = next_look_s([repo(**BOTH)], SERVER, [replica(("https://c.example/", 1, 2))])
    failing = next_look_s([repo(), repo(**BOTH)], SERVER, [replica(), replica(SHORT)])
    assert quiet is not None
    assert failing is not None
    assert failing < quiet


@pytest.mark.parametrize(
    ("upstream", "expected"),
    [(None, False), ({}, False), ({"url": A}, False), ({"mode": "Cached"}, True), ({"sources": [{"url": A}]}, True)],
)
def test_which_tables_an_older_server_refuses(upstream, expected):
    assert needs_newer(upstream) is expected


def test_a_replica_of_an_older_image_is_reported_as_such():
    old = msgspec.structs.replace(replica(), knows_sources=False)
    found = too_old([old, replica()], policies=False, access=False)
    assert found is not None
    assert (found.reason, found.message[:45]) == ("ImageTooOld", "1 of 2 ready replicas know no upstream source")
    assert too_old([old], policies=False, access=False, sources=False) is None
