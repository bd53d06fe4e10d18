"""Replicas that share a cache: own names, policies, a full or failing store, many clients, and sudden deaths."""

import contextlib
import dataclasses
import http.client
import json
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support.distributions.large_wheel import LargeWheel
from support.distributions.wheels import wheel
from support.object_stores.fault_proxy import StoreFault, fault_proxy
from support.object_stores.store import ObjectStore
from support.server.downloading import Counted, download_at_once
from support.server.index_client import IndexClient, sha256
from support.server.metrics import metric
from support.server.policies import PolicyFile, deny
from support.server.pull_through import CachePlace, Mirror, cache_place, in_threads, mirror, replicas
from support.server.serving import Server, running
from support.server.upstream import Answer, Upstream, upstream
from support.storage.volumes import volume
from support.waiting import wait_for

REPO = "mirror"
MB = 1_000_000
KILLS = {"file_system": 20, "s3": 5}
CLIENTS = 200
SHARED_MB = int(os.environ.get("PYWHARF_SHARED_WHEEL_MB", "8"))
"""The size of the wheel that all clients ask for concurrently."""
PASSED_THROUGH = "pywharf_cache_passed_through_total"
LEFT_TO_OTHERS = 64 * 1024 * 1024
"""Bytes of its disk that a server leaves free."""
CHECKED = 5
"""Clients that look at every byte; the others count them."""
MAY_GROW_BYTES = 60 * MB
WITHDRAWN_S = 2.0
AUTH = f"{REPO}:{REPO}-read"


@pytest.fixture
def index() -> Iterator[Upstream]:
    with upstream() as index:
        yield index


@pytest.fixture(params=["file_system", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> CachePlace:
    store: ObjectStore | None = request.getfixturevalue("s3") if request.param == "s3" else None
    return cache_place(tmp_path / "cache", store)


def offer(index: Upstream, folder: Path, project: str, size: int = 1000) -> Path:
    """Offer a project with one wheel of about `size` bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = random.Random(project).randbytes(size // 2).hex()
    path = wheel(folder, project, payload=f"NOISE = '{noise}'\n".encode())
    index.offer(project, path, core_metadata=True, serial=1)
    return path


def test_a_name_that_becomes_owned_withdraws_what_is_kept(index: Upstream, tmp_path: Path):
    place = cache_place(tmp_path / "cache")
    path = offer(index, tmp_path / "files", "acme")
    with replicas(tmp_path / "servers", place, mirror(REPO, index.url)) as servers:
        clients = [Mirror(server.url, REPO) for server in servers]
        for client in clients:
            assert client.get(f"acme/{path.name}").body == path.read_bytes()
        (tmp_path / "own").mkdir()
        own = wheel(tmp_path / "own", "acme", "0.1")
        reply = IndexClient(servers[0].url, REPO, f"{REPO}-write").upload(own)
        assert reply.status == 200, reply
        for client in clients:
            wait_for(lambda c=client: list(c.files("acme")) == [own.name], "own files", longest_s=WITHDRAWN_S)  # type: ignore[misc]
            assert client.get(f"acme/{path.name}").status == 404
            assert client.get(f"acme/{path.name}.metadata").status == 404
            assert client.get(f"acme/{own.name}").body == own.read_bytes()


def test_reserved_names_are_never_asked_for(index: Upstream, tmp_path: Path):
    path = offer(index, tmp_path / "files", "acme-core")
    config = mirror(REPO, index.url, reserved=["acme-*"])
    with running(tmp_path / "server", cache_place(tmp_path / "cache").flags, config=config) as server:
        client = Mirror(server.url, REPO)
        assert client.get("acme-core/").status == 404
        assert client.get(f"acme-core/{path.name}").status == 404
    assert index.requests == []


def test_a_policy_withholds_what_was_kept_before_it(index: Upstream, tmp_path: Path):
    path = offer(index, tmp_path / "files", "stolen")
    policies = PolicyFile(tmp_path / "policies.json")
    policies.write()
    config = policies.config(mirror(REPO, index.url))
    flags = [*cache_place(tmp_path / "cache").flags, "--internal_port=0"]
    with running(tmp_path / "server", flags, config=config) as server:
        client = Mirror(server.url, REPO)
        assert client.get(f"stolen/{path.name}").body == path.read_bytes()
        assert client.get(f"stolen/{path.name}.metadata").status == 200
        policies.serve(server, config, deny("stolen"))
        assert client.files("stolen") == {}
        other_spelling = f"Stolen/%73{path.name[1:]}"
        for address in (f"stolen/{path.name}", f"stolen/{path.name}.metadata", other_spelling):
            assert client.get(address, If_None_Match=f'"{sha256(path.read_bytes())}"').status == 403
            assert client.get(address, If_None_Match="*").status == 403
            assert client.get(address).status == 403
            assert client.get(address, "HEAD").status == 403
            assert client.get(address, Range="bytes=0-9").status == 403
        policies.serve(server, config)
        assert client.get(f"stolen/{path.name}").body == path.read_bytes()
    assert index.fetched().count(path.name) == 1


def test_a_full_disk_lets_files_pass_through(index: Upstream, tmp_path: Path):
    large, small = offer(index, tmp_path / "files", "large", 3 * MB), offer(index, tmp_path / "files", "small")
    with volume(tmp_path / "cache" / "kept", 80) as disk:
        place = cache_place(tmp_path / "cache")
        with running(tmp_path / "server", place.flags, config=mirror(REPO, index.url)) as server:
            client = Mirror(server.url, REPO)
            assert client.get(f"small/{small.name}").body == small.read_bytes()
            place.wait_for(small.read_bytes())
            disk.fill(leaving_bytes=LEFT_TO_OTHERS + MB)
            for _ in range(2):
                assert client.get(f"large/{large.name}").body == large.read_bytes()
            assert sum(metric(server, PASSED_THROUGH, reason) for reason in ("no room", "store full")) == 2
            disk.free()
            assert client.get(f"large/{large.name}").body == large.read_bytes()
            place.wait_for(large.read_bytes())
            asked = len(index.fetched())
            for path in (large, small):
                assert client.get(f"{path.name.partition('-')[0]}/{path.name}").body == path.read_bytes()
            assert len(index.fetched()) == asked


def test_a_failing_bucket_lets_files_pass_through(index: Upstream, s3: ObjectStore, tmp_path: Path):
    path = offer(index, tmp_path / "files", "some", 100_000)
    with fault_proxy(s3.endpoint) as proxy:
        place = cache_place(tmp_path / "cache", dataclasses.replace(s3, endpoint=proxy.url))
        with running(tmp_path / "server", place.flags, config=mirror(REPO, index.url)) as server:
            client = Mirror(server.url, REPO)
            proxy.faults.append(StoreFault("PUT|POST", "", 500, times=1000))
            assert client.get(f"some/{path.name}").body == path.read_bytes()
            proxy.faults.append(StoreFault(".*", "", 500, times=1000))
            assert client.get(f"some/{path.name}").body == path.read_bytes()
            proxy.faults.clear()
            wait_for(lambda: _fetches(client, index, path) == 0, "the file to be kept")


def _with_credentials(name: str, url: str, **credentials: str) -> str:
    """Return the table of a mirror that sends credentials to its index."""
    source = f'{{ url = "{url}", ' + ", ".join(f'{key} = "{value}"' for key, value in credentials.items()) + " }"
    return mirror(name, "").replace('url = ""', f"sources = [{source}]")


def _fetches(client: Mirror, index: Upstream, path: Path) -> int:
    """Return how often the index is asked for one download."""
    before = index.fetched().count(path.name)
    assert client.get(f"some/{path.name}").body == path.read_bytes()
    return index.fetched().count(path.name) - before


def test_a_first_source_that_fails_is_not_replaced_by_the_next(index: Upstream, tmp_path: Path):
    """Files of two indexes are never mixed, and one that is down delays its own names alone."""
    with upstream() as first:
        offer(first, tmp_path / "first", "torch", 1000)
        offer(first, tmp_path / "first", "outside", 1000)
        for project in ("torch", "torchvision", "outside"):
            offer(index, tmp_path / "second", project, 2000)
        first.credentials = "robot:correct-horse"
        source = f'{{ url = "{first.url}", projects = ["torch*"], username = "robot", password = "correct-horse" }}'
        config = mirror(REPO, "").replace('url = ""', f'sources = [{source}, {{ url = "{index.url}" }}]')
        with running(tmp_path / "server", cache_place(tmp_path / "cache").flags, config=config) as server:
            client = Mirror(server.url, REPO)
            found = {name: client.get(f"{name}/{name}-1.0-py3-none-any.whl") for name in ("torch", "outside")}
            assert {name: len(reply.body) for name, reply in found.items()} == {
                "torch": (tmp_path / "first" / "torch-1.0-py3-none-any.whl").stat().st_size,
                "outside": (tmp_path / "second" / "outside-1.0-py3-none-any.whl").stat().st_size,
            }
            assert not [asked.path for asked in first.requests if "outside" in asked.path]
            assert list(client.files("torchvision")), "the first source lacks it, so the second is asked"
            first.down = True
            assert client.get("torchaudio/").status in {502, 504}
            assert index.asked("torchaudio") == 0
            assert client.get("outside/").status == 200
        assert "correct-horse" not in server.text()
    assert not [asked for asked in index.requests if "Authorization" in asked.headers]


def test_a_file_without_a_digest_belongs_to_the_credentials_it_was_fetched_with(index: Upstream, tmp_path: Path):
    """An index may send each of its users another file of one name, so what one repo fetched is not another's."""
    name = "odd-1.0.tar.gz"
    entry = {"filename": name, "url": f"../../files/{name}", "hashes": {}}
    page = {"meta": {"api-version": "1.1"}, "name": "odd", "files": [entry]}
    index.answers["odd"] = Answer(json.dumps(page).encode())
    users = {f"team-{user}": {"username": user, "password": f"password-of-{user}"} for user in "ab"}
    config = "".join(_with_credentials(repo, index.url, **fields) for repo, fields in users.items())
    config += mirror("public", index.url)
    with replicas(tmp_path / "servers", cache_place(tmp_path / "cache"), config) as servers:
        for repo in (*users, "public"):
            index.file_answers[name] = Answer(f"the file of {repo}".encode(), "application/octet-stream")
            assert Mirror(servers[0].url, repo).get(f"odd/{name}").body == f"the file of {repo}".encode()
        index.file_answers[name] = Answer(b"another", "application/octet-stream")
        for repo in (*users, "public"):
            # Each keeps what it was sent first, on all replicas.
            assert Mirror(servers[1].url, repo).get(f"odd/{name}").body == f"the file of {repo}".encode()


@pytest.mark.timeout(600)
def test_200_clients_of_one_new_wheel_are_one_fetch_and_bounded_memory(index: Upstream, tmp_path: Path):
    made = LargeWheel("shared", SHARED_MB * MB)
    path = tmp_path / made.filename
    with path.open("wb") as file:
        for piece in made.pieces():
            file.write(piece)
    index.offer("shared", path, serial=1)
    with replicas(tmp_path / "servers", cache_place(tmp_path / "cache"), mirror(REPO, index.url)) as servers:
        for server in servers:
            assert Mirror(server.url, REPO).get("shared/").status == 200
        processes = [psutil.Process(server.process.pid) for server in servers]
        before = [process.memory_info().rss for process in processes]
        highest = list(before)
        clients = [
            Counted(servers[n % 2].url, f"/repo/{REPO}/simple/shared/{path.name}", AUTH, made.size, checked=n < CHECKED)
            for n in range(CLIENTS)
        ]
        for _ in download_at_once(clients):
            highest = [max(h, p.memory_info().rss) for h, p in zip(highest, processes, strict=True)]
        assert {client.outcome for client in clients[:CHECKED]} == {made.sha256}
        assert {client.outcome for client in clients[CHECKED:]} == {str(made.size)}
        assert index.fetched().count(path.name) == 1
        grown = [(h - b) / MB for h, b in zip(highest, before, strict=True)]
        print(f"{CLIENTS} clients of {SHARED_MB} MB: memory grew by {grown} MB")
        assert max(grown) < MAY_GROW_BYTES / MB


@pytest.mark.timeout(300)
def test_a_replica_killed_in_mid_fetch_leaves_nothing_wrong(index: Upstream, place: CachePlace, tmp_path: Path):
    """One replica dies again and again while it fetches; the other gives what was asked for, whole."""
    config = mirror(REPO, index.url)
    paths = [offer(index, tmp_path / "files", f"p{number}", 400_000) for number in range(KILLS[place.kind])]
    expected = {path.name: path.read_bytes() for path in paths}
    chosen = random.Random(os.urandom(8))
    with replicas(tmp_path / "stays", place, config, count=1) as [stays], contextlib.ExitStack() as stack:
        other = Mirror(stays.url, REPO)
        faults: list[str] = []
        threads = []
        for number, path in enumerate(paths):
            index.go_on.clear()
            index.file_answers[path.name] = Answer(expected[path.name], "application/octet-stream", how="held")
            with replicas(tmp_path / f"dies-{number}", place, config, count=1) as [dies]:
                victim = threading.Thread(target=_ask_a_dying_one, args=(dies, path, expected, faults))
                with in_threads([victim]):
                    wait_for(lambda p=path: p.name in index.fetched(), "the fetch to begin")  # type: ignore[misc]
                    threading.Event().wait(chosen.uniform(0, 0.1))
                    dies.stop(signal.SIGKILL)
            del index.file_answers[path.name]
            index.go_on.set()
            threads.append(threading.Thread(target=_ask, args=(other, path, expected, faults)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        assert faults == []
        # Whatever the deaths left, a new replica serves every file whole.
        [last] = stack.enter_context(replicas(tmp_path / "last", place, config, count=1))
        for path in paths:
            _ask(Mirror(last.url, REPO), path, expected, faults)
        assert faults == []


def _ask(client: Mirror, path: Path, expected: dict[str, bytes], faults: list[str]) -> None:
    project = path.name.partition("-")[0]
    reply = client.get(f"{project}/{path.name}")
    if (reply.status, reply.body) != (200, expected[path.name]):
        faults.append(f"{path.name}: {reply.status}, {len(reply.body)} bytes of SHA-256 {sha256(reply.body)[:12]}")


def _ask_a_dying_one(server: Server, path: Path, expected: dict[str, bytes], faults: list[str]) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        _ask(Mirror(server.url, REPO), path, expected, faults)
