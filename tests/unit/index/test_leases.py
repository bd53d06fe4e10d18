"""Check the lock that a replica holds while it fetches a file: renewed in time, and released whatever happens."""

import asyncio

import pytest

from pywharf.core.errors import BackendUnavailableError
from pywharf.index.upstream import leases
from pywharf.index.upstream.leases import lease
from support.waiting import until

NAME = "a" * 64


class Locks:
    """The locks of a store, which another replica may hold, or which fails."""

    def __init__(self, *, others: bool = False, fails: bool = False) -> None:
        self.others, self.fails = others, fails
        self.held = False
        self.taken = self.extended = self.released = 0

    async def lock(self, name: str, seconds: float) -> bool:
        assert (name, seconds) == (NAME, leases.LEASE_S)
        if self.fails:
            raise BackendUnavailableError("away")
        if self.others or self.held:
            return False
        self.held = True
        self.taken += 1
        return True

    async def extend(self, name: str, seconds: float) -> bool:
        assert (name, seconds) == (NAME, leases.LEASE_S)
        if self.fails:
            raise BackendUnavailableError("away")
        self.extended += self.held
        return self.held

    async def unlock(self, name: str) -> None:
        if self.fails:
            raise BackendUnavailableError("away")
        self.held = False
        self.released += 1


async def test_a_lock_is_held_renewed_and_released(monkeypatch):
    monkeypatch.setattr(leases, "_RENEWED_S", 0.001)
    locks = Locks()
    async with lease(locks, NAME) as taken:
        assert taken == "taken"
        await until(lambda: locks.extended > 3, "some renewals")
        assert (locks.taken, locks.released) == (1, 0)  # at no moment may another replica take it
    assert not locks.held


async def test_a_lock_that_ended_is_taken_again_once_it_is_free(monkeypatch):
    monkeypatch.setattr(leases, "_RENEWED_S", 0.001)
    locks = Locks()
    async with lease(locks, NAME):
        locks.held, locks.others = False, True
        await asyncio.sleep(0.01)
        assert not locks.held
        locks.others = False
        await until(lambda: locks.held, "the lock")


async def test_a_store_that_fails_for_a_while_ends_no_renewal(monkeypatch):
    monkeypatch.setattr(leases, "_RENEWED_S", 0.001)
    locks = Locks()
    async with lease(locks, NAME):
        locks.fails = True
        await asyncio.sleep(0.01)
        locks.fails = False
        before = locks.extended
        await until(lambda: locks.extended > before, "a renewal")


async def test_a_lock_that_another_holds_is_left_alone():
    locks = Locks(others=True)
    async with lease(locks, NAME) as taken:
        assert taken == "held by another"
    assert locks.released == 0


async def test_a_store_that_fails_is_said(monkeypatch):
    locks = Locks(fails=True)
    async with lease(locks, NAME) as taken:
        assert taken == "store failed"
    locks.fails = False
    async with lease(locks, NAME):
        monkeypatch.setattr(locks, "fails", True)


async def test_a_lock_is_released_after_an_error():
    locks = Locks()
    with pytest.raises(ZeroDivisionError):
        async with lease(locks, NAME):
            raise ZeroDivisionError
    assert not locks.held
