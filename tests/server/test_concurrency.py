"""Tests of concurrent writers in one server, in several on one ROOT and in several workers: nothing gets corrupt.

If concurrent uploads of one name differ, one wins and the others get 409. If their bytes are the same, each gets 200.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pywharf.backends.file_system.journal import FileJournal
from pywharf.core.model import Project
from pywharf.index.codecs import decode_index
from support.distributions.wheels import wheel
from support.server.calling import Reply
from support.server.index_client import IndexClient
from support.server.serving import Server, running
from support.server.updating import finished, update_index
from support.storage.faults import PROGRAM, Fault, environment
from support.waiting import wait_for

CONCURRENT = 100
VISIBLE_S = 2.0


@contextlib.contextmanager
def servers(folder: Path, topology: str) -> Iterator[list[Server]]:
    """Run the servers of a topology, all on one ROOT."""
    first, second, root = folder / "first", folder / "second", folder / "root"
    match topology.partition(", without hard links: "):
        case "one server", _, _:
            with running(first, root=root) as server:
                yield [server]
        case "two workers", _, _:
            with running(first, ["--workers=2"], root=root) as server:
                yield [server]
        case "two servers", _, "":
            with running(first, root=root) as a, running(second, root=root) as b:
                yield [a, b]
        case "two servers", _, error:
            env = environment(Fault("os.link", do=error))
            with (
                running(first, root=root, program=PROGRAM, env=env) as a,
                running(second, root=root, program=PROGRAM, env=env) as b,
            ):
                yield [a, b]
        case _:
            raise AssertionError(topology)


@pytest.mark.parametrize(
    "topology",
    [
        "one server",
        "two servers",
        "two workers",
        "two servers, without hard links: EPERM",
        "two servers, without hard links: EOPNOTSUPP",
    ],
)
def test_of_many_uploads_of_one_file_one_wins(tmp_path, topology):
    with servers(tmp_path, topology) as running_servers:
        clients = [IndexClient.of(server) for server in running_servers]
        for project, different in (("same", False), ("different", True)):
            (tmp_path / project).mkdir()
            path = wheel(tmp_path / project, project)
            contents = [path.read_bytes()] * CONCURRENT
            if different:
                contents = [
                    wheel(tmp_path / project, project, payload=b"%d\n" % n).read_bytes() for n in range(CONCURRENT)
                ]
            replies = upload_concurrently(clients, path, contents)
            statuses = Counter(reply.status for reply in replies)
            # Uploading the same bytes again succeeds; if the bytes differ, one upload wins.
            assert statuses == ({200: 1, 409: CONCURRENT - 1} if different else {200: CONCURRENT}), (
                f"{project} bytes: {statuses}; {next(str(r) for r in replies if r.status not in {200, 409})}"
            )
            assert all(r.reason.startswith("File already exists") for r in replies if r.status == 409)
            won = contents[[reply.status for reply in replies].index(200)]
            for client in clients:
                assert wait_for_file(client, path.name) == won
        root = tmp_path / "root" / "cache" / "demo"
        assert sorted(p.name for p in root.rglob("*.tmp")) == []
        journal = FileJournal(root / "journal").read(None).entries
        assert sorted(e.file.filename for e in journal if e.file) == [
            "different-1.0-py3-none-any.whl",
            "same-1.0-py3-none-any.whl",
        ]


def upload_concurrently(clients: Sequence[IndexClient], path: Path, contents: Sequence[bytes]) -> list[Reply]:
    """Upload all contents concurrently, started by a barrier. Returns one reply for each."""
    start = threading.Barrier(len(contents))

    def upload(number: int) -> Reply:
        start.wait(60)
        return clients[number % len(clients)].upload(path, contents[number])

    with ThreadPoolExecutor(len(contents)) as threads:
        return list(threads.map(upload, range(len(contents))))


def wait_for_file(client: IndexClient, filename: str) -> bytes:
    """Wait until a file is reachable from the root page. Returns its content."""
    served: dict[str, bytes] = {}

    def is_served() -> bool:
        served.update(client.everything())
        return filename in served

    wait_for(is_served, f"{filename} is listed at {client.url}", longest_s=10)
    return served[filename]


class Load:
    """Threads that run until the work is done. A fault in one of them stops all."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.faults: list[str] = []
        self._threads: list[threading.Thread] = []

    def start(self, work, *arguments) -> None:
        def run() -> None:
            try:
                work(*arguments)
            except Exception as error:  # noqa: BLE001 - the test's own thread reports it
                self.faults.append(f"{work.__name__}: {type(error).__name__}: {error}")
                self.done.set()

        thread = threading.Thread(target=run)
        self._threads.append(thread)
        thread.start()

    def join(self) -> None:
        self.done.set()
        for thread in self._threads:
            thread.join()
        assert not self.faults, "\n".join(self.faults)


FILES = 90


class MixedLoad:
    """Uploads, reads and runs of update_index with several servers on one ROOT."""

    def __init__(self, root: Path, wheels: Sequence[Path]) -> None:
        self.root = root
        self.wheels = wheels
        self.contents = {path.name: path.read_bytes() for path in wheels}
        self.acknowledged: dict[str, float] = {}
        self.load = Load()

    def upload(self, client: IndexClient, share: Sequence[Path]) -> None:
        for path in share:
            if self.load.done.is_set():
                return
            reply = client.upload(path)
            assert reply.status == 200, f"{path.name}: {reply}"
            self.acknowledged[path.name] = time.monotonic()
            again = client.upload(path)
            assert again.status == 200, f"{path.name} again: {again}"

    def read(self, client: IndexClient, one_process: bool) -> None:
        """Check that acknowledged files are listed and, with one process, that listed files stay listed."""
        seen: set[str] = set()
        while not self.load.done.is_set():
            old = time.monotonic() - VISIBLE_S
            expected = {name for name, at in list(self.acknowledged.items()) if at < old} | seen
            listed = {name: entry for project in client.projects() for name, entry in client.files(project).items()}
            missing = expected - listed.keys()
            assert not missing, f"{client.url} does not list {sorted(missing)}"
            if one_process:
                seen |= listed.keys()
            for name in sorted(listed)[:: max(1, len(listed) // 10)]:
                body = client.checked(name.partition("-")[0], name, listed[name])
                assert body == self.contents[name], f"{name}: other bytes than were uploaded"

    def update(self) -> None:
        while not self.load.done.is_set():
            process = update_index(self.root)
            out, err = process.communicate()
            assert process.returncode == 0 or "run update_index again" in err, f"{process.returncode}: {out}{err}"

    def run(self, alone: IndexClient, shared: IndexClient) -> None:
        self.load.start(self.read, alone, True)
        self.load.start(self.read, shared, False)
        self.load.start(self.update)
        self.load.start(self.update)
        for number, client in enumerate((alone, shared, alone, shared)):
            self.load.start(self.upload, client, self.wheels[number::4])
        done = self.load.done.is_set
        wait_for(lambda: len(self.acknowledged) == len(self.wheels) or done(), "everything is uploaded", longest_s=60)
        time.sleep(VISIBLE_S)  # the readers must see the last uploads, too
        self.load.join()


def test_two_servers_and_workers_on_one_root_under_a_mixed_load(tmp_path):
    """Under uploads, reads and update_index, a file is listed everywhere, complete, 2 s after its acknowledgement."""
    (tmp_path / "wheels").mkdir()
    wheels = [
        wheel(tmp_path / "wheels", f"p{n % 7}", f"1.{n}", payload=b"x" * (1000 if n % 5 else 1_000_000))
        for n in range(FILES)
    ]
    root = tmp_path / "root"
    mixed = MixedLoad(root, wheels)
    with running(tmp_path / "a", root=root) as a, running(tmp_path / "b", ["--workers=2"], root=root) as b:
        clients = [IndexClient.of(a), IndexClient.of(b)]
        mixed.run(*clients)
        assert [client.everything() == mixed.contents for client in clients] == [True, True]
        finished(update_index(root))
    folder = root / "cache" / "demo"
    index = decode_index((folder / "storage" / "index.toml").read_bytes(), "index.toml")
    assert sum(len((index.project(name) or Project(name=name)).files) for name in index) == FILES
    assert FileJournal(folder / "journal").read(None).entries == ()
    assert [p.name for p in folder.rglob("*.tmp")] == []
