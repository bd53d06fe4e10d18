"""Check the audit log's one schema: which fields each event has, and that no text in it is long or breaks a line."""

import re
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from pywharf.core.audit import MAX_FILES, Burn, Change, Event, Login, Logout, Mint, Origin, Publish, Refusal, line_of
from support.parts import CHECKOUT

NOW = datetime(2026, 11, 27, 22, 4, 26, 123456, UTC)
ORIGIN = Origin("192.0.2.1", "abc")
WHO = {"subject": "system:serviceaccount:ml:trainer", "entry": "pods"}
SHARED = {
    "schema": "pywharf.audit/1",
    "time": "2026-11-27T22:04:26.123Z",
    "result": "done",
    "repo": "team-a",
    **WHO,
    "address": "192.0.2.1",
    "request_id": "abc",
}


def fields(event, origin=ORIGIN, now=NOW):
    return msgspec.json.decode(msgspec.json.encode(line_of(event, origin, now)))


TABLE: list[tuple[Event, dict[str, object]]] = [
    (
        Publish(repo="team-a", project="acme", filename="acme-1.0.tar.gz", sha256="0" * 64),
        {"event": "publish", "project": "acme", "files": ["acme-1.0.tar.gz"], "sha256": "0" * 64},
    ),
    (
        Change(repo="team-a", action="yank", project="acme", files=("a", "b"), reason="broken", is_complete=False),
        {
            "event": "change",
            "result": "incomplete",
            "action": "yank",
            "project": "acme",
            "files": ["a", "b"],
            "reason": "broken",
        },
    ),
    (
        Change(repo="team-a", action="status", project="acme", status="archived"),
        {"event": "change", "action": "status", "project": "acme", "status": "archived"},
    ),
    (
        Refusal(repo="team-a", status=401, reason="expired", suppressed=7),
        {"event": "refusal", "result": "refused", "status": 401, "reason": "expired", "suppressed": 7},
    ),
    (Login(repo="team-a"), {"event": "login"}),
    (Logout(repo="team-a"), {"event": "logout"}),
    (
        Mint(repo="team-a", token="f00", until=1_800_000_000.5),
        {"event": "mint", "token": "f00", "until": "2027-01-15T08:00:00.500Z"},
    ),
    (Burn(repo="team-a", token="f00"), {"event": "burn", "token": "f00"}),
]


@pytest.mark.parametrize(("event", "told"), TABLE)
def test_what_each_event_says(event, told):
    assert fields(msgspec.structs.replace(event, **WHO)) == SHARED | told


def test_times_are_utc():
    assert fields(Login(), now=NOW.astimezone(timezone(timedelta(hours=5))))["time"] == SHARED["time"]


def test_what_is_not_known_is_left_out():
    assert set(fields(Login(), Origin())) == {"schema", "time", "event", "result"}


def test_every_text_is_bounded_and_printable():
    evil = "\x1b[2J\n" + "x" * 5000
    origin = Origin(evil, evil)
    events: list[Event] = [
        Publish(repo=evil, project=evil, filename=evil, sha256="0" * 64),
        Change(repo=evil, action="yank", project=evil, files=(evil,) * 5000, reason=evil, status=evil),
        Refusal(repo=evil, status=403, reason=evil, project=evil, filename=evil),
        Mint(repo=evil, token=evil, until=0),
        Burn(repo=evil, token=evil),
    ]
    for event in events:
        encoded = msgspec.json.encode(
            line_of(msgspec.structs.replace(event, subject=evil, entry=evil), origin, NOW)
        ).decode()
        assert len(encoded) < 16_000
        assert "\\" not in encoded  # nothing in it had to be escaped
        assert encoded.isprintable()
    changed = fields(events[1])
    assert (len(changed["files"]), changed["file_count"]) == (MAX_FILES, 5000)


def test_the_schema_is_documented():
    """Also the other way: no line has a field or an event that the table lacks."""
    text = (CHECKOUT / "docs" / "audit.md").read_text()
    tables = text.partition("### Subjects")[0]
    documented = set(re.findall(r"^\| `(\w+)` \|", tables, re.MULTILINE))
    line = line_of(Login(), Origin(), NOW)
    kinds = {event.kind for event, _ in TABLE}
    assert documented == {*line.__struct_fields__, *kinds}
    assert f"`{line.schema}`" in text
