"""Check which events get a line, and that refusals and sign-ins cannot fill a disk."""

import json
import logging

import pytest

from pywharf.core.audit import Burn, Login, Logout, Origin, Refusal
from pywharf.serving.audit_log import LOGGER_NAME, AuditLog

REFUSAL = Refusal(status=401, reason="wrong")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(caplog, monkeypatch):
    """Return a function that takes the lines written since it was called last."""
    monkeypatch.setattr(logging.getLogger(LOGGER_NAME), "propagate", True)
    caplog.set_level(logging.INFO, LOGGER_NAME)

    def taken():
        found = [json.loads(record.getMessage()) for record in caplog.records if record.name == LOGGER_NAME]
        caplog.clear()
        return found

    return taken


def refuse(log, count, address="192.0.2.1"):
    for _ in range(count):
        log.write(REFUSAL, Origin(address=address))


def test_off(lines):
    AuditLog("off").write(Login(), Origin())
    assert lines() == []


def test_what_is_left_out_is_counted_in_the_next_line(lines, clock):
    suppressed: list[str] = []
    log = AuditLog(on_suppressed=suppressed.append, clock=clock)
    refuse(log, 120)
    found = lines()
    assert (len(found), {line.get("suppressed") for line in found}, suppressed) == (20, {None}, ["refusal"] * 100)
    clock.now += 6
    refuse(log, 2)
    [line] = lines()
    assert line["suppressed"] == 100
    clock.now += 6
    refuse(log, 1)
    [line] = lines()
    assert line["suppressed"] == 1
    clock.now += 600
    refuse(log, 30)
    assert len(lines()) == 20


def test_one_address_takes_nothing_from_another(lines, clock):
    log = AuditLog(clock=clock)
    refuse(log, 1000)
    refuse(log, 1, "192.0.2.2")
    assert lines()[-1]["address"] == "192.0.2.2"


def test_many_addresses_are_bounded_together(lines, clock):
    log = AuditLog(clock=clock)
    for number in range(20_000):
        refuse(log, 1, f"2001:db8:{number:x}::1")
    assert len(lines()) == 200
    clock.now += 10
    for number in range(20_000):
        refuse(log, 1, f"2001:db8:{number:x}::1")
    assert len(lines()) == 20


def test_other_events_are_never_left_out(lines, clock):
    log = AuditLog(clock=clock)
    refuse(log, 1000)
    for _ in range(300):
        log.write(Burn(repo="demo", token="id"), Origin(address="192.0.2.1"))
    assert sum(line["event"] == "burn" for line in lines()) == 300


def test_sign_ins_have_bounds_of_their_own(lines, clock):
    suppressed: list[str] = []
    log = AuditLog(on_suppressed=suppressed.append, clock=clock)
    refuse(log, 1000)
    suppressed.clear()
    lines()
    for _ in range(30):
        log.write(Login(repo="demo"), Origin(address="192.0.2.1"))
        log.write(Logout(repo="demo"), Origin(address="192.0.2.1"))
    log.write(Login(repo="demo"), Origin(address="192.0.2.2"))
    assert [line["event"] for line in lines()] == [*["login", "logout"] * 10, "login"]
    assert suppressed == ["login", "logout"] * 20
    clock.now += 6
    log.write(Login(repo="demo"), Origin(address="192.0.2.1"))
    [line] = lines()
    assert line["suppressed"] == 40
