"""How each backend of this project keeps claims: which do, where they are bounded, when they end, what may break."""

import hashlib
import itertools
import time

import pytest

from pywharf.backends.file_system import token_claims as file_system_claims
from pywharf.backends.object_store import token_claims as object_store_claims
from pywharf.core.errors import UnavailableError
from pywharf.index.ports import Backend, Claims
from support.object_stores.fault_proxy import StoreFault, fault_proxy
from support.storage.storages import GITHUB, OBJECT_STORES, STORAGES

_numbers = itertools.count()


def some_name() -> str:
    return hashlib.sha256(f"{time.time()}-{next(_numbers)}".encode()).hexdigest()


def soon() -> int:
    return int(time.time()) + 900


def opened_claims(backend: Backend) -> Claims:
    assert isinstance(backend, Claims)
    return backend


@pytest.mark.parametrize("opened", ["memory", "file_system"], indirect=True)
async def test_what_ended_an_hour_ago_is_gone(opened):
    """A bucket keeps a claim from the moment when it was made, so there it takes a while."""
    claims = opened("index.json")
    ended = some_name()
    assert await claims.claim(ended, int(time.time()) - 3600)
    await claims.remove_ended_claims()
    assert not await claims.is_claimed(ended)


def test_the_backends_of_this_project_that_keep_claims(opened, request):
    """A backend that loses the port would lose the promise with it, silently."""
    is_github = request.node.callspec.params["opened"] == GITHUB
    assert isinstance(opened("index.json"), Claims) is not is_github


MODULES = {"file_system": file_system_claims, "s3": object_store_claims, "azure": object_store_claims}
"""Those of the backends that bound their claims folder by folder."""


@pytest.mark.parametrize("opened", MODULES, indirect=True)
async def test_claims_are_bounded_and_ended_ones_give_way(opened, request, monkeypatch):
    module = MODULES[request.node.callspec.params["opened"]]
    claims = opened("index.json")
    monkeypatch.setattr(module, "MAX_IN_FOLDER", 2)
    names = [f"{number}".rjust(64, "a") for number in range(4)]
    now = int(time.time())
    assert await claims.claim(names[0], now + 60)
    assert await claims.claim(names[1], now + 7200)
    with pytest.raises(UnavailableError):
        await claims.claim(names[2], now + 60)
    assert not await claims.is_claimed(names[2])
    assert await claims.claim("b" * 64, now + 60), "another folder has room"
    monkeypatch.setattr(module, "END_MARGIN_S", -3600)  # as if it were an hour later
    assert await claims.claim(names[2], now + 7200)
    assert [await claims.is_claimed(name) for name in names] == [False, True, True, False]


@pytest.mark.parametrize("opened", OBJECT_STORES, indirect=True)
async def test_a_bucket_keeps_what_is_valid_by_the_store_s_clock(opened, monkeypatch):
    claims = opened("index.json")
    now = int(time.time())
    assert await claims.claim("a" * 64, now + 60)
    assert await claims.claim("b" * 64, now + 7200)
    await claims.remove_ended_claims()
    assert [await claims.is_claimed(name * 64) for name in "ab"] == [True, True]
    monkeypatch.setattr(object_store_claims, "END_MARGIN_S", -3600)
    await claims.remove_ended_claims()
    assert [await claims.is_claimed(name * 64) for name in "ab"] == [False, True]


async def test_a_claim_whose_answer_was_lost_is_still_the_first(s3, tmp_path):
    with fault_proxy(s3.endpoint) as proxy:
        claims = opened_claims(s3.open(s3.table(endpoint=proxy.url, download="stream"), tmp_path))
        name = some_name()
        assert not await claims.is_claimed(name)
        proxy.faults.append(StoreFault("PUT", "tokens/", "lost"))
        assert await claims.claim(name, soon())
        assert not proxy.faults[0].times, "the answer was not lost"
        assert not await claims.claim(name, soon())


@pytest.mark.parametrize("method", ["PUT", "GET"])
async def test_a_store_that_fails_claims_nothing(s3, tmp_path, method):
    with fault_proxy(s3.endpoint) as proxy:
        claims = opened_claims(s3.open(s3.table(endpoint=proxy.url, download="stream"), tmp_path))
        name = some_name()
        assert not await claims.is_claimed(name)
        proxy.faults.append(StoreFault(method, "tokens", 403, times=100))
        with pytest.raises(UnavailableError):
            await claims.claim(name, soon())


async def test_a_store_that_fails_does_not_say_that_nothing_was_claimed(s3, tmp_path):
    with fault_proxy(s3.endpoint) as proxy:
        claims = opened_claims(s3.open(s3.table(endpoint=proxy.url, download="stream"), tmp_path))
        name = some_name()
        assert await claims.claim(name, soon())
        proxy.faults.append(StoreFault("HEAD", "tokens", 403, times=100))
        with pytest.raises(UnavailableError):
            await claims.is_claimed(name)


async def test_a_folder_that_cannot_be_read_does_not_say_that_nothing_was_claimed(tmp_path):
    claims = opened_claims(STORAGES["file_system"].make(tmp_path)("index.json"))
    name = some_name()
    assert await claims.claim(name, soon())
    (tokens,) = tmp_path.rglob("tokens")
    tokens.rename(tokens.with_name("kept"))
    tokens.write_text("no folder")
    for call in (claims.is_claimed(name), claims.claim(name, soon())):
        with pytest.raises(UnavailableError):
            await call


async def test_what_somebody_put_among_the_claims_stays(tmp_path):
    claims = opened_claims(STORAGES["file_system"].make(tmp_path)("index.json"))
    assert await claims.claim("a" * 64, int(time.time()) - 3600)
    (tokens,) = tmp_path.rglob("tokens")
    (tokens / "a" / "folder").mkdir()
    (tokens / "notes.txt").write_text("by hand")
    await claims.remove_ended_claims()
    assert sorted(path.name for path in tokens.rglob("*")) == ["a", "folder", "notes.txt"]
