"""Real clients install three real lock files through two replicas that keep an index: cold, warm, without the index."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.clients.computer import Computer, Index
from support.clients.locking import LOCKS
from support.object_stores.replicas import Balancer, balancer
from support.object_stores.store import ObjectStore
from support.server.index_client import sha256
from support.server.pull_through import AWAY, Mirror, cache_place, mirror, replicas
from support.server.pypi_like import ODD, Generated, generate_like_pypi
from support.server.serving import Server
from support.server.upstream import Upstream, upstream

REPO = "mirror"
PROJECTS = 300
LOCKED = 3
"""Projects that a lock names; with what they require it holds some more."""


@dataclass
class Running:
    """Two replicas behind one address, and the index that they keep."""

    index: Upstream
    generated: Generated
    balancer: Balancer
    servers: list[Server]
    stop_upstream: Callable[[], None]
    restart: Callable[[], None]

    @property
    def known_to_clients(self) -> Index:
        return Index(f"{self.balancer.url}/repo/{REPO}/simple/", REPO, f"{REPO}-read")

    @property
    def mirror(self) -> Mirror:
        return Mirror(self.balancer.url, REPO)

    def fetched_files(self) -> list[str]:
        """Return the names of distributions that the index was asked for, one entry a request."""
        return [name for name in self.index.fetched() if not name.endswith(".metadata")]


@pytest.fixture(params=["file_system", "s3"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    store: ObjectStore | None = request.getfixturevalue("s3") if request.param == "s3" else None
    place = cache_place(tmp_path / "cache", store)
    with contextlib.ExitStack() as of_index, contextlib.ExitStack() as stack:
        index = of_index.enter_context(upstream())
        (tmp_path / "files").mkdir()
        generated = generate_like_pypi(index, tmp_path / "files", PROJECTS)
        front = stack.enter_context(balancer())
        of_servers = stack.enter_context(contextlib.ExitStack())

        def start() -> list[Server]:
            of_servers.close()
            config = mirror(REPO, index.url)
            servers = of_servers.enter_context(replicas(tmp_path / "servers", place, config))
            front.targets[:] = [server.url for server in servers]
            return servers

        def restart() -> None:
            made.servers = start()

        made = Running(index, generated, front, start(), of_index.close, restart)
        yield made


@pytest.mark.timeout(300)
def test_three_locks_install_cold_warm_and_without_the_index(running: Running, tmp_path: Path):
    plain = running.generated.plain
    chosen = [plain[at::23][:LOCKED] for at in (2, 7, 13)]
    chosen[0] += [name for name in ODD if name != "odd-platforms"]
    chosen[1] += ["odd-local"]
    locks = [
        lock.write(Computer(tmp_path / f"locking-{number}"), running.known_to_clients, chosen[number])
        for number, lock in enumerate(LOCKS)
    ]
    early = {name for name in running.fetched_files() if not name.startswith("odd_no_")}
    assert not early, f"fetched although their .metadata is there: {early}"

    cold = _install_all(running, locks, tmp_path / "cold")
    assert [set(chosen[number]) - set(found) for number, found in enumerate(cold)] == [set()] * 3
    fetched = sorted(running.fetched_files())
    assert fetched == sorted(set(fetched)), "a file was fetched twice"
    assert len(fetched) >= len({name for found in cold for name in found})

    assert _install_all(running, locks, tmp_path / "warm") == cold
    assert sorted(running.fetched_files()) == fetched

    expected = running.generated.digests()
    running.stop_upstream()
    running.restart()  # what they had in memory is gone, too
    assert _install_all(running, locks, tmp_path / "away") == cold
    served = {name: running.mirror.get(f"{_project(name)}/{name}") for name in fetched}
    assert {name: sha256(reply.body) for name, reply in served.items()} == {name: expected[name] for name in fetched}
    _check_what_is_not_there(running, set(fetched))


def _install_all(running: Running, locks: list[Path], folder: Path) -> list[dict[str, str]]:
    """Install each lock on a computer of its own. Returns what is installed."""
    found = []
    for number, lock in enumerate(locks):
        computer = Computer(folder / str(number))
        python = LOCKS[number].install(computer, running.known_to_clients, lock)
        installed = python.installed()
        installed.pop("consumer", None)
        found.append(installed)
    return found


def _check_what_is_not_there(running: Running, fetched: set[str]) -> None:
    """Check that what the cache lacks while the index is away is a 504 with a sentence, never a 404."""
    never = next(name for name in running.generated.plain if not running.index.asked(name))
    page = running.mirror.get(f"{never}/")
    assert (page.status, page.json()["type"]) == (504, AWAY), page
    known = next(name for name in running.generated.plain if running.index.asked(name))
    others = [name for name in running.mirror.files(known) if name not in fetched]
    for name in others[:1]:
        assert running.mirror.get(f"{known}/{name}").status == 504


def _project(filename: str) -> str:
    return filename.partition("-")[0].replace("_", "-")
