"""Claims: names that count once, over all servers of one storage."""

import asyncio
import hashlib
import itertools
import time

import pytest

from pywharf.index.ports import Backend, Claims
from pywharf.index.update import update_index
from support.storage.storages import CLAIMING

pytestmark = pytest.mark.parametrize("opened", CLAIMING, indirect=True)

_numbers = itertools.count()


def some_name() -> str:
    return hashlib.sha256(f"{time.time()}-{next(_numbers)}".encode()).hexdigest()


def soon() -> int:
    return int(time.time()) + 900


@pytest.fixture
def claims(backend: Backend) -> Claims:
    assert isinstance(backend, Claims)
    return backend


@pytest.fixture
def others(other: Backend, claims: Claims) -> Claims:
    assert isinstance(other, Claims)
    return other


async def test_a_name_counts_once(claims, others):
    name, until = some_name(), soon()
    assert not await claims.is_claimed(name)
    assert await claims.claim(name, until)
    assert [await one.claim(name, until) for one in (claims, others)] == [False, False]
    assert [await one.is_claimed(name) for one in (claims, others)] == [True, True]


async def test_another_name_counts_too(claims):
    assert await claims.claim(some_name(), soon())
    name = some_name()
    assert not await claims.is_claimed(name)
    assert await claims.claim(name, soon())


async def test_one_of_a_hundred_calls_of_two_servers_is_first(claims, others):
    name, until = some_name(), soon()
    calls = [one.claim(name, until) for _ in range(50) for one in (claims, others)]
    assert (await asyncio.gather(*calls)).count(True) == 1


async def test_update_index_removes_what_ended_long_ago_alone(backend, claims, others):
    ended, valid = some_name(), some_name()
    now = int(time.time())
    assert await claims.claim(ended, now - 3600)
    assert await claims.claim(valid, now + 900)
    await update_index(backend, backend_type="any", index_name="index.json", progress=lambda *_: None)
    assert await others.is_claimed(valid)
    assert not await others.claim(valid, now + 900)
