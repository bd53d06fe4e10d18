"""Check that a body is unpacked up to its limit and never past it."""

import gzip
import hashlib

import pytest

from pywharf.core.unpacking import Body, TooLargeBodyError

TEXT = bytes(range(256)) * 400


def fed(body, content, piece=1000):
    for start in range(0, len(content), piece):
        body.feed(content[start : start + piece])
    return body.whole()


@pytest.mark.parametrize("piece", [1, 17, 100_000_000])
@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("", TEXT),
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT)),
        ("GZIP", gzip.compress(TEXT)),
        ("gzip", gzip.compress(TEXT[:5000]) + gzip.compress(TEXT[5000:])),
    ],
)
def test_what_fits(encoding, content, piece):
    assert fed(Body(encoding, len(TEXT)), content, piece) == TEXT
    with pytest.raises(TooLargeBodyError, match=f"over {len(TEXT) - 1} bytes"):
        fed(Body(encoding, len(TEXT) - 1), content, piece)


@pytest.mark.parametrize("size", [256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 512 * 1024, 3_000_000])
@pytest.mark.parametrize("content", [bytes(1), b"abcdefg"], ids=["zeros", "letters"])
def test_what_is_unpacked_in_several_steps(content, size):
    whole = (content * size)[:size]
    packed = gzip.compress(whole)
    for piece in (1, 100, len(packed)):
        assert fed(Body("gzip", size), packed, piece) == whole


def test_a_bomb_costs_its_bound_alone():
    bomb = gzip.compress(bytes(64 * 1024 * 1024), 9)
    body = Body("gzip", 100_000)
    with pytest.raises(TooLargeBodyError):
        fed(body, bomb, len(bomb))
    assert 100_000 < len(body) <= 100_000 + 256 * 1024


@pytest.mark.parametrize(
    ("encoding", "content", "says"),
    [
        ("br", b"x", "encoded as 'br'"),
        ("gzip, gzip", b"x", "encoded as"),
        ("gzip", b"no gzip", "not packed as it says"),
        ("gzip", gzip.compress(TEXT)[:-5], "end is missing"),
        ("gzip", gzip.compress(hashlib.shake_256(b"x").digest(5000))[:2000], "end is missing"),
    ],
)
def test_what_is_refused(encoding, content, says):
    with pytest.raises(ValueError, match=says):
        fed(Body(encoding, 10**6), content)


def test_nothing():
    assert Body("gzip", 10).whole() == b""
