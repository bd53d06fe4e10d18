"""Servers on one bucket, without a shared disk: real clients through one address, and a storm with kills."""

import asyncio
import concurrent.futures
import contextlib
import hashlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pywharf.core.errors import BackendUnavailableError
from pywharf.core.names import ProjectName
from pywharf.index.codecs import decode_index
from pywharf.index.ports import Backend, Change, Delete, SetYanked, StoredIndex
from support.clients.computer import Computer, Index
from support.clients.installing import install
from support.clients.publishing import publish
from support.distributions.projects import source_tree
from support.distributions.wheels import wheel
from support.object_stores.replicas import balancer, replica, write_config
from support.object_stores.store import ObjectStore
from support.server.calling import call
from support.server.index_client import IndexClient
from support.server.serving import Server
from support.server.updating import finished, start
from support.waiting import stretched, until, wait_for

SIZE = "PYWHARF_STORM"
"""The variable with the number of uploads of the storm; the issue wants 1,000."""
UPLOADS = int(os.environ.get(SIZE, "120"))
WITHIN_S = 2.0


@pytest.fixture
def pair(s3: ObjectStore, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    flags = write_config(tmp_path / "config", s3, s3.table())
    with replica(tmp_path / "a", flags) as a, replica(tmp_path / "b", flags) as b:
        yield a, b


def test_real_clients_through_one_address(pair, computer: Computer, tmp_path):
    with balancer(pair[0].url, pair[1].url) as address:
        index = Index(f"{address.url}/repo/demo/simple/", "demo", "demo-write")
        for tool, builder in (("twine", "setuptools"), ("uv", "hatchling"), ("poetry", "poetry")):
            tree = source_tree(tmp_path / tool, f"acme-{tool}", builder)
            tree.build(computer)
            publish(tool, computer, tree, index)
            publish("twine", computer, tree, index)  # the same files again, maybe to the other one
        read = Index(index.url, "demo", "demo-read")
        for tool in ("pip", "uv", "poetry"):
            python, _ = install(tool, computer, read, "acme-twine", "acme-uv", "acme-poetry", into=f"with-{tool}")
            assert python.value("acme_twine") == "setuptools"


def test_an_upload_shows_on_the_other_replica_within_two_seconds(pair, tmp_path):
    slowest = 0.0
    for number in range(4):
        taker, other = (IndexClient.of(server) for server in (pair if number % 2 else pair[::-1]))
        path = wheel(tmp_path, "known", f"1.{number}")
        assert taker.upload(path).status == 200
        taken_at = time.monotonic()
        assert path.name in taker.files("known")
        wait_for(lambda path=path, other=other: path.name in other.files("known"), f"{path.name} on the other replica")
        slowest = max(slowest, time.monotonic() - taken_at)
    print(f"shown on the other replica after {slowest:.2f} s at most")
    assert slowest < stretched(WITHIN_S)


def test_a_download_is_a_redirect_whose_url_stays(pair, tmp_path):
    path = wheel(tmp_path, "foo", payload=os.urandom(100_000))
    client = IndexClient.of(pair[0])
    assert client.upload(path).status == 200
    replies = [call(f"{client.index}foo/{path.name}", auth="demo:demo-read") for _ in range(3)]
    assert {reply.status for reply in replies} == {302}
    (location,) = {reply.headers["Location"] for reply in replies}
    assert call(location).body == path.read_bytes()
    assert call(location, headers={"Range": "bytes=5-9"}).body == path.read_bytes()[5:10]


def test_streamed_downloads_with_ranges(s3: ObjectStore, tmp_path):
    flags = write_config(tmp_path / "config", s3, s3.table(download="stream"))
    path = wheel(tmp_path, "foo", payload=os.urandom(2_000_000))
    with replica(tmp_path / "a", flags) as server:
        client = IndexClient.of(server)
        assert client.upload(path).status == 200
        url = f"{client.index}foo/{path.name}"
        assert call(url, auth="demo:demo-read").body == path.read_bytes()
        part = call(url, auth="demo:demo-read", headers={"Range": "bytes=1000000-1000009"})
        assert (part.status, part.body) == (206, path.read_bytes()[1_000_000:1_000_010])
        head = call(url, "HEAD", auth="demo:demo-read")
        assert head.headers["Content-Length"] == str(path.stat().st_size)


@pytest.mark.timeout(300)
def test_of_two_contents_of_one_name_one_wins_each_time(pair, tmp_path):
    """And the same bytes to both are taken by both, and stored once."""
    clients = [IndexClient.of(server) for server in pair]
    times = 100 if SIZE in os.environ else 25
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for number in range(times):
            path = wheel(tmp_path, "race", f"1.{number}")
            contents = []
            for side in range(2):
                (tmp_path / f"{number}-{side}").mkdir()
                made = wheel(
                    tmp_path / f"{number}-{side}", "race", f"1.{number}", payload=b"%d" % side * (number % 5 + 1)
                )
                contents.append(made.read_bytes())
            replies = [
                *pool.map(lambda one, path=path: one[0].upload(path, one[1]), zip(clients, contents, strict=True))
            ]
            assert sorted(reply.status for reply in replies) == [200, 409]
            won = contents[[reply.status for reply in replies].index(200)]
            again = [*pool.map(lambda one, path=path, won=won: one.upload(path, won), clients)]
            assert [reply.status for reply in again] == [200, 200]
            digest = hashlib.sha256(won).hexdigest()
            assert clients[0].files("race")[path.name]["hashes"] == {"sha256": digest}


class Storm:
    """Uploads and changes spread over two replicas; what was acknowledged."""

    def __init__(self) -> None:
        self.uploaded: dict[str, str] = {}
        self.yanked: set[str] = set()
        self.deleted: set[str] = set()
        self.kills = 0
        self.over = threading.Event()


@pytest.mark.timeout(600)
def test_a_storm_loses_and_doubles_nothing(s3: ObjectStore, tmp_path):
    """Uploads, yanks and deletes while update_index runs in a loop, and one replica is killed now and then."""
    table = s3.table()
    flags = write_config(tmp_path / "config", s3, table)
    storm = Storm()
    paths = [wheel(tmp_path, f"p{number % 10}", f"1.{number}") for number in range(UPLOADS)]
    changed = random.sample(paths, UPLOADS * 3 // 20)
    to_yank, to_delete = changed[: UPLOADS // 10], changed[UPLOADS // 10 :]
    with replica(tmp_path / "a", flags) as a, balancer(a.url) as address:
        killing = threading.Thread(target=_keep_killing, args=(tmp_path, flags, address, storm))
        updating = threading.Thread(target=_keep_updating, args=(flags, storm))
        changing = threading.Thread(
            target=lambda: asyncio.run(_change(s3.open(table, tmp_path / "c"), to_yank, to_delete, storm))
        )
        for thread in (killing, updating, changing):
            thread.start()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda path: _upload(IndexClient(address.url), path, storm), paths))
        changing.join()
        storm.over.set()
        killing.join()
        updating.join()
        finished(start("update_index", "s3", "demo", *flags))
        pages = {name: IndexClient.of(a).files(name) for name in sorted({p.name.partition("-")[0] for p in paths})}
    _check(asyncio.run(_read(s3.open(table, tmp_path / "d"))), storm)
    assert storm.kills
    assert len(storm.uploaded) == UPLOADS
    assert (len(storm.yanked), len(storm.deleted)) == (len(to_yank), len(to_delete))
    shown = {name for files in pages.values() for name in files}
    assert shown == storm.uploaded.keys() - storm.deleted


def _upload(client: IndexClient, path: Path, storm: Storm) -> None:
    """Upload until it is acknowledged; a lost answer is repeated, as a client would."""

    def acknowledged() -> bool:
        with contextlib.suppress(OSError):
            reply = client.upload(path)
            assert reply.status in {200, 502, 503}, str(reply)
            return reply.status == 200
        return False

    wait_for(acknowledged, f"the upload of {path.name}", longest_s=60)
    storm.uploaded[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()


async def _change(backend: Backend, to_yank: list[Path], to_delete: list[Path], storm: Storm) -> None:
    for path in (
        [path for pair in zip(to_yank, to_delete + to_yank, strict=False) for path in pair] + to_yank + to_delete
    ):
        name = path.name
        if name in storm.yanked | storm.deleted:
            continue
        await until(lambda name=name: name in storm.uploaded, f"{name} is there", longest_s=300)
        is_yank = path in to_yank
        action = SetYanked(name, "storm") if is_yank else Delete(name)
        while True:
            try:
                await backend.change(Change(ProjectName(name.partition("-")[0]), action))
            except BackendUnavailableError:
                continue
            (storm.yanked if is_yank else storm.deleted).add(name)
            break


def _keep_killing(folder: Path, flags: list[str], address, storm: Storm) -> None:
    number = 0
    while not storm.over.is_set():
        number += 1
        # A replica that a busy machine does not start in time is no part of the storm.
        with contextlib.suppress(AssertionError), replica(folder / f"b{number}", flags) as b:
            address.targets.append(b.url)
            storm.over.wait(1.5 + random.random())
            address.targets.remove(b.url)
            b.stop(signal.SIGKILL)
            storm.kills += 1


def _keep_updating(flags: list[str], storm: Storm) -> None:
    while not storm.over.is_set():
        process = start("update_index", "s3", "demo", *flags)
        process.communicate(timeout=120)


async def _read(backend: Backend) -> dict[str, tuple[str, str | None]]:
    """Return the digest and the reason of a yank of each file in the index, and check that no name is there twice."""
    stored = await backend.read_index()
    assert isinstance(stored, StoredIndex)
    index = decode_index(stored.content, stored.filename)
    files = [file for name in index for file in getattr(index.project(name), "files", ())]
    assert len({file.filename for file in files}) == len(files)
    assert (await backend.read_journal()).entries == ()
    return {file.filename: (file.sha256, file.yanked) for file in files}


def _check(found: dict[str, tuple[str, str | None]], storm: Storm) -> None:
    assert found == {
        name: (digest, "storm" if name in storm.yanked else None)
        for name, digest in storm.uploaded.items()
        if name not in storm.deleted
    }
