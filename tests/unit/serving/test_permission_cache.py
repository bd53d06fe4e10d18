"""Check the cache of a storage's answers about secrets: their lifetime, how often it asks, and what it keeps."""

import asyncio

import pytest

from pywharf.core.access.permission import Permission
from pywharf.core.errors import BackendUnavailableError, RateLimitedError
from pywharf.serving.permission_cache import PermissionCache

NONE, READ, WRITE = Permission.NONE, Permission.READ, Permission.WRITE


class Storage:
    """A storage that knows some secrets and records each secret that it is asked about."""

    def __init__(self) -> None:
        self.known = {"reader": READ, "writer": WRITE}
        self.asked: list[str] = []
        self.is_down = False

    def is_plausible(self, secret: str) -> bool:
        return "!" not in secret

    async def permission_of(self, secret: str) -> Permission:
        self.asked.append(secret)
        await asyncio.sleep(0)
        if self.is_down:
            raise BackendUnavailableError("down")
        return self.known.get(secret, NONE)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def grants(storage: Storage, clock: Clock) -> PermissionCache:
    return PermissionCache(storage, read_expires_s=3600, write_expires_s=300, clock=clock)


@pytest.mark.parametrize(
    ("secret", "needed", "granted", "after_s", "is_asked_again"),
    [
        ("reader", READ, READ, 3599, False),
        ("reader", READ, READ, 3600, True),
        ("writer", WRITE, WRITE, 299, False),
        ("writer", WRITE, WRITE, 300, True),
        ("writer", READ, WRITE, 3599, False),
        ("writer", READ, WRITE, 3600, True),
        ("reader", WRITE, READ, 29, False),
        ("reader", WRITE, READ, 30, True),
        ("nobody", READ, NONE, 29, False),
        ("nobody", READ, NONE, 30, True),
    ],
)
async def test_how_long_it_holds(grants, storage, clock, secret, needed, granted, after_s, is_asked_again):
    assert await grants.permission(secret, needed) is granted
    clock.now += after_s
    assert await grants.permission(secret, needed) is granted
    assert storage.asked == [secret] * (2 if is_asked_again else 1)


async def test_a_revoked_secret_ends_with_its_time(grants, storage, clock):
    assert await grants.permission("writer", WRITE) is WRITE
    del storage.known["writer"]
    clock.now += 299
    assert await grants.permission("writer", WRITE) is WRITE
    clock.now += 1
    assert await grants.permission("writer", WRITE) is NONE
    assert await grants.permission("writer", READ) is NONE


async def test_where_the_storage_is_down_what_is_known_holds_and_nothing_else(grants, storage, clock):
    assert await grants.permission("reader", READ) is READ
    storage.is_down = True
    clock.now += 3599
    assert await grants.permission("reader", READ) is READ
    for secret in ("writer", "nobody", "reader"):
        clock.now += 1
        with pytest.raises(BackendUnavailableError):
            await grants.permission(secret, READ)
    storage.is_down = False
    assert await grants.permission("writer", READ) is WRITE


async def test_who_asks_at_one_time_shares_an_answer_also_where_the_first_goes_away(grants, storage):
    first, *others = [asyncio.create_task(grants.permission("reader", READ)) for _ in range(20)]
    await asyncio.sleep(0)
    first.cancel()
    assert set(await asyncio.gather(*others)) == {READ}
    assert storage.asked == ["reader"]


async def test_after_many_wrong_ones_only_those_that_are_known_are_let_in(grants, storage, clock):
    assert await grants.permission("reader", READ) is READ
    for number in range(60):
        assert await grants.permission(f"wrong-{number}", READ) is NONE
    with pytest.raises(RateLimitedError) as raised:
        await grants.permission("writer", READ)
    assert 0 < raised.value.retry_after_s <= 61
    assert "writer" not in storage.asked
    assert await grants.permission("reader", READ) is READ
    clock.now += 60
    assert await grants.permission("writer", READ) is WRITE


async def test_no_secret_is_kept(grants):
    await grants.permission("reader", READ)
    assert "reader" not in repr(vars(grants))
    assert b"reader" not in repr(grants._granted).encode()  # noqa: SLF001 - the test is about what it keeps


async def test_a_text_that_can_be_no_secret_costs_nothing(grants, storage):
    for number in range(1000):
        assert await grants.permission(f"!!junk{number}", READ) is NONE
    assert storage.asked == []
    assert await grants.permission("reader", READ) is READ


async def test_wrong_secrets_count_for_the_address_that_sent_them(grants, storage):
    for number in range(60):
        assert await grants.permission(f"wrong-{number}", READ, "192.0.2.1") is NONE
    with pytest.raises(RateLimitedError, match="from your address"):
        await grants.permission("reader", READ, "192.0.2.1")
    assert await grants.permission("reader", READ, "192.0.2.2") is READ
    assert await grants.permission("reader", READ, "192.0.2.1") is READ  # the secret is cached now
    assert storage.asked.count("reader") == 1


async def test_a_flood_of_wrong_secrets_drives_out_no_right_one(grants, storage, clock):
    assert await grants.permission("reader", READ, "192.0.2.1") is READ
    for number in range(10_100):
        clock.now += 0.2
        assert await grants.permission(f"wrong-{number}", READ, f"10.0.{number % 200}.1") is NONE
    storage.is_down = True
    assert await grants.permission("reader", READ, "192.0.2.1") is READ


async def test_a_known_secret_is_asked_about_again_whatever_its_address_did(grants, storage, clock):
    assert await grants.permission("reader", READ, "192.0.2.1") is READ
    clock.now += 3600
    for number in range(60):
        await grants.permission(f"wrong-{number}", READ, "192.0.2.1")
    assert await grants.permission("reader", READ, "192.0.2.1") is READ
    assert storage.asked.count("reader") == 2


async def test_many_wrong_ones_at_one_time_ask_no_more_often(grants, storage):
    tasks = [grants.permission(f"wrong-{number}", READ, "192.0.2.1") for number in range(500)]
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(one is NONE for one in found) == len(storage.asked)
    assert 60 <= len(storage.asked) <= 64  # up to four more were in progress
    assert all(one is NONE or isinstance(one, RateLimitedError) for one in found)
