"""Tests of the records of ended sessions: whose sessions end when there are too many."""

import json
import time

import pytest

from pywharf.core.names import RepoName
from pywharf.serving import session_files
from pywharf.serving.session_files import Holder, SessionFiles

REPO = RepoName("team-a")
NOW = 1_800_000_000
MOST = 30
"""Records of a repo in these tests."""
PUBLISHER, GUEST = Holder("entry-a", "publisher"), Holder("entry-b", "guest")
READER, WRITER = Holder("read"), Holder("write")


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def files(tmp_path, clock, monkeypatch) -> SessionFiles:
    monkeypatch.setattr(session_files, "_MAX_ENDED", MOST)
    return SessionFiles(tmp_path, clock)


async def end(files: SessionFiles, holder: Holder, session: str, issued_at: int = NOW) -> None:
    await files.add(REPO, holder, session, issued_at, issued_at + 3600)


async def is_valid(files: SessionFiles, holder: Holder, session: str = "kept", issued_at: int = NOW) -> bool:
    return not await files.holds(REPO, holder, session, issued_at)


async def test_who_signs_in_and_out_all_day_ends_no_others_session(files, tmp_path):
    others = [PUBLISHER, READER, WRITER, Holder("entry-b", "another guest")]
    for holder in others:
        await end(files, holder, f"ended of {holder}")
    for number in range(5 * MOST):
        await end(files, GUEST, f"session-{number}")
    assert not await is_valid(files, GUEST)
    assert not await is_valid(files, GUEST, "session-0")
    for holder in others:
        assert await is_valid(files, holder)
        assert not await is_valid(files, holder, f"ended of {holder}")
    assert await is_valid(files, GUEST, issued_at=NOW + 1), "the guest may sign in again"
    assert len(json.loads((tmp_path / "team-a.json").read_bytes())["sessions"]) <= MOST
    again = SessionFiles(tmp_path, lambda: NOW)
    assert [await is_valid(again, holder) for holder in (*others, GUEST)] == [True] * 4 + [False]


async def test_who_comes_under_many_names_ends_the_sessions_of_its_own_entry_alone(files, tmp_path):
    await end(files, PUBLISHER, "ended")
    for number in range(20 * MOST):
        await end(files, Holder("entry-b", f"branch-{number}"), f"session-{number}")
        assert not await is_valid(files, Holder("entry-b", f"branch-{number}"), f"session-{number}")
    assert not await is_valid(files, GUEST)
    for holder in (PUBLISHER, READER, WRITER):
        assert await is_valid(files, holder)
    assert not await is_valid(files, PUBLISHER, "ended")
    record = json.loads((tmp_path / "team-a.json").read_bytes())
    assert len(record["sessions"]) + len(record["all_of"]) <= MOST
    assert set(record["holders"]) == set(record["sessions"])


async def test_no_ended_session_is_valid_again_before_it_expires(files):
    ended = []
    for number in range(10 * MOST):
        holder = Holder(f"entry-{number % 7}", f"{number % 11}")
        await end(files, holder, f"session-{number}")
        ended.append((holder, f"session-{number}"))
        assert not any([await is_valid(files, *one) for one in ended])


async def test_what_has_expired_is_forgotten(files, clock, tmp_path):
    for number in range(2 * MOST):
        await end(files, GUEST, f"session-{number}")
    clock.now += 3601
    await end(files, PUBLISHER, "last", clock.now)
    record = json.loads((tmp_path / "team-a.json").read_bytes())
    assert (list(record["sessions"]), record["all_of"], record["before"]) == (["last"], {}, 0)


async def test_records_of_an_older_version_end_all_sessions_past_the_bound(files, tmp_path):
    """They do not say whose session ended."""
    old = {f"old-{number}": NOW + 60 for number in range(MOST)}
    (tmp_path / "team-a.json").write_text(json.dumps({"before": 0, "sessions": old}))
    assert not await is_valid(files, PUBLISHER, "old-1")
    await end(files, GUEST, "new")
    assert not await is_valid(files, PUBLISHER, "old-1")
    assert not await is_valid(files, PUBLISHER)
    assert await is_valid(files, PUBLISHER, issued_at=NOW + 1)


async def test_the_bound_fits_into_a_file(tmp_path):
    files, now = SessionFiles(tmp_path), int(time.time())
    record = {
        "before": 0,
        "sessions": {f"{number:022}": now + 3600 for number in range(999)},
        "holders": {f"{number:022}": f"{'e' * 24}/{number:016}" for number in range(999)},
    }
    (tmp_path / "team-a.json").write_text(json.dumps(record))
    for number in range(3):
        await files.add(REPO, Holder("e" * 24, "m" * 16), f"last-{number}", now, now + 3600)
    assert not await is_valid(files, Holder("e" * 24, "m" * 16), "last-2", now)
    assert not await is_valid(SessionFiles(tmp_path), Holder("e" * 24, "m" * 16), "last-2", now)
