"""The client of a feed: conditional requests, limits and faults of the host."""

import pytest

from pywharf.egress.advisory_feed import FeedClient, FeedUnavailableError, Validators
from pywharf.egress.sessions import Egress
from support.server.feed_host import FeedHost, hosting


@pytest.fixture
def host():
    with hosting() as running:
        running.content = b"x" * 3_000_000
        yield running


async def fetched(host: FeedHost, target, known=Validators(), egress=Egress(), **limits):  # noqa: B008 - both are immutable
    client = FeedClient(host.url, "tests", egress)
    try:
        return await client.fetch(target, known, **limits)
    finally:
        await client.aclose()


async def test_a_feed_is_fetched_once(host, tmp_path):
    target = tmp_path / "feed"
    known = await fetched(host, target)
    assert target.read_bytes() == host.content
    assert known.etag
    target.unlink()
    assert await fetched(host, target, known) is None
    assert host.answers == [200, 304]
    host.content = b"another"
    assert await fetched(host, target, known) != known
    assert target.read_bytes() == b"another"


@pytest.mark.parametrize(
    ("fault", "limits", "said"),
    [
        ({"status": 500}, {}, "500"),
        ({"status": 304}, {}, "304"),
        ({"hangs": True}, {"total_s": 0.3}, "in time"),
        ({}, {"longest": 100}, "100 bytes"),
        ({"announced": 10**12}, {}, "bytes"),
        ({"announced": 4_000_000}, {}, "fetched"),
        ({"status": 302, "location": "/again"}, {}, "redirects more than"),
        ({"status": 302, "location": "http://127.0.0.9/x"}, {}, "this machine"),
        ({"status": 302, "location": "file:///etc/passwd"}, {}, "plain"),
    ],
    ids=["500", "304 unasked", "hangs", "large", "huge", "short", "loop", "own network", "no http"],
)
async def test_a_host_that_fails(host, tmp_path, fault, limits, said):
    for name, value in fault.items():
        setattr(host, name, value)
    with pytest.raises(FeedUnavailableError, match=said):
        await fetched(host, tmp_path / "feed", **limits)


async def test_a_host_that_is_not_allowed_or_not_there(host, tmp_path):
    with pytest.raises(FeedUnavailableError, match="not among"):
        await fetched(host, tmp_path / "feed", egress=Egress(("feeds.example.com",)))
    host.url = "http://127.0.0.1:9/feed.zip"
    with pytest.raises(FeedUnavailableError, match="cannot be fetched"):
        await fetched(host, tmp_path / "feed")
    assert not host.answers
