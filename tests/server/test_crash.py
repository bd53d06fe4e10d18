"""Tests of crashes at any moment: acknowledged files stay, no partial file is served, every index is complete."""

import contextlib
import http.client
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pywharf.index.codecs import decode_index
from support.distributions.wheels import wheel
from support.server.index_client import IndexClient, sha256
from support.server.serving import running
from support.server.updating import finished, update_index
from support.storage.faults import PROGRAM, Fault, environment
from support.waiting import wait_for

GONE = (OSError, http.client.HTTPException)
"""Exceptions that a client gets from a server that dies."""
KILLS = 10
SIZES = (200, 50_000, 400_000, 3_000_000)
OLD_S = 25 * 3600


@dataclass
class Uploads:
    """Wheels by file name, and the file names that the server acknowledged."""

    known: dict[str, Path] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)

    def add(self, path: Path) -> None:
        self.known[path.name] = path

    @property
    def unacknowledged(self) -> list[Path]:
        return [path for name, path in self.known.items() if name not in self.acknowledged]

    def project(self, filename: str) -> str:
        return filename.partition("-")[0]

    def check(self, filename: str, content: bytes, where: str) -> None:
        expected = self.known[filename].read_bytes()
        assert content == expected, (
            f"{filename} {where}: {len(content)} bytes of SHA-256 {sha256(content)[:12]}, "
            f"uploaded were {len(expected)} of {sha256(expected)[:12]}"
        )

    def send(self, client: IndexClient, path: Path) -> None:
        """Upload a wheel; ignore the errors of a dead server."""
        with contextlib.suppress(*GONE):
            reply = client.upload(path)
            assert reply.status == 200, f"{path.name}: {reply}"
            if reply.status == 200:
                self.acknowledged.add(path.name)

    def send_all(self, client: IndexClient, paths: list[Path]) -> None:
        for path in paths:
            self.send(client, path)

    def check_storage(self, storage: Path) -> None:
        """Check that every file with a distribution's name is complete."""
        for path in storage.glob("*/*.whl"):
            self.check(path.name, path.read_bytes(), "in the storage after the crash")

    def check_served(self, client: IndexClient) -> None:
        """Check that every acknowledged file is listed and that every listed file is what was uploaded."""
        served = client.everything()
        for filename, content in served.items():
            self.check(filename, content, "as it is served")
        missing = self.acknowledged - served.keys()
        assert not missing, f"acknowledged and not listed: {sorted(missing)}; listed are {sorted(served)}"


@contextlib.contextmanager
def watching(client: IndexClient, uploads: Uploads) -> Iterator[list[str]]:
    """Download all listed files repeatedly and collect the faults."""
    faults: list[str] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            try:
                for filename, content in client.everything().items():
                    uploads.check(filename, content, "as it was served meanwhile")
            except GONE:
                time.sleep(0.01)
            except AssertionError as error:
                faults.append(str(error))
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield faults
    finally:
        stop.set()
        thread.join()


def seeded() -> random.Random:
    """Return a random generator for the moments, and print its seed to reproduce them."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


def leftovers(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*.tmp"))


def make_old(root: Path) -> None:
    for name in leftovers(root):
        then = time.time() - OLD_S
        os.utime(root / name, (then, then))


def test_server_killed_at_random_moments_while_it_takes_uploads(tmp_path):
    chosen = seeded()
    root = tmp_path / "root"
    uploads = Uploads()
    storage = root / "cache" / "demo" / "storage"
    (tmp_path / "wheels").mkdir()
    killed_with_open_uploads = 0
    for number in range(KILLS):
        for index in range(8):
            payload = chosen.randbytes(chosen.choice(SIZES))
            uploads.add(wheel(tmp_path / "wheels", f"p{index % 3}", f"{number}.{index}", payload=payload))
        with running(tmp_path / "server", root=root) as server:
            client = IndexClient.of(server)
            uploads.check_served(client)
            threads = [
                threading.Thread(target=uploads.send_all, args=(client, uploads.unacknowledged[n::3])) for n in range(3)
            ]
            with watching(client, uploads) as faults:
                for thread in threads:
                    thread.start()
                time.sleep(chosen.uniform(0.01, 0.25))
                server.process.kill()
                server.process.wait()
                for thread in threads:
                    thread.join()
            assert not faults, faults[0]
        killed_with_open_uploads += bool(uploads.unacknowledged)
        uploads.check_storage(storage)
    assert killed_with_open_uploads, "no kill came in the middle of the uploads"
    with running(tmp_path / "server", root=root) as server:
        client = IndexClient.of(server)
        uploads.check_served(client)
        for path in uploads.unacknowledged:
            reply = client.upload(path)
            assert reply.status == 200, f"again, {path.name}: {reply}"
        everything = set(uploads.known)
        assert set(client.everything()) == everything, "a retry completes what was killed half done"
        finished(update_index(root))
        wait_for(lambda: set(client.everything()) == everything, f"everything is listed: {sorted(everything)}")
        uploads.acknowledged = everything
        uploads.check_served(client)
        make_old(root)
        finished(update_index(root))
        assert leftovers(root) == []
        uploads.check_served(client)


UPLOAD_STEPS = {
    "the staged file's fsync": Fault("os.fsync", r"staging/\w+\.tmp$", "kill"),
    "the sidecar's writing": Fault("file.write", r"storage/one/\.\w+\.tmp$", "kill", when="after"),
    "the link": Fault("os.link", r"one-2\.0", "kill"),
    "after the link": Fault("os.link", r"one-2\.0", "kill", when="after"),
    "the first sidecar's place": Fault("os.replace", r"one-2\.0", "kill"),
    "after the first sidecar's place": Fault("os.replace", r"one-2\.0", "kill", nth=1, when="after"),
    "after the second sidecar's place": Fault("os.replace", r"one-2\.0", "kill", nth=2, when="after"),
    "the folder's fsync": Fault("os.fsync", r"storage/one$", "kill"),
    "the journal": Fault("os.write", r"journal$", "kill"),
    "the middle of the journal's line": Fault("os.write", r"journal$", "half"),
    "after the journal": Fault("os.write", r"journal$", "kill", when="after"),
    "the journal's fsync": Fault("os.fdatasync", r"journal$", "kill"),
    "after the journal's fsync": Fault("os.fdatasync", r"journal$", "kill", when="after"),
}


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """Return a ROOT with one acknowledged file, to be copied."""
    folder = tmp_path_factory.mktemp("published")
    with running(folder) as server:
        reply = IndexClient.of(server).upload(wheel(folder, "one", "1.0"))
        assert reply.status == 200, str(reply)
        return server.root


@pytest.mark.parametrize("step", UPLOAD_STEPS)
def test_server_killed_at_a_step_of_an_upload(tmp_path, published, step):
    root = tmp_path / "root"
    shutil.copytree(published, root)
    uploads = Uploads()
    uploads.add(wheel(tmp_path, "one", "1.0"))
    uploads.acknowledged.add("one-1.0-py3-none-any.whl")
    new = wheel(tmp_path, "one", "2.0", payload=b"VALUE = 2\n")
    uploads.add(new)
    with running(tmp_path / "a", root=root, program=PROGRAM, env=environment(UPLOAD_STEPS[step])) as server:
        uploads.send(IndexClient.of(server), new)
        assert server.process.wait(10) == -9, f"it was to die at {step}"
        assert new in uploads.unacknowledged, f"it was to die at {step}, but answered"
    uploads.check_storage(root / "cache" / "demo" / "storage")
    with running(tmp_path / "b", root=root) as server:
        client = IndexClient.of(server)
        uploads.check_served(client)
        # The client's retry completes what is missing; for other bytes the name is taken.
        for _ in range(2):
            reply = client.upload(new)
            assert reply.status == 200, str(reply)
            uploads.acknowledged.add(new.name)
            uploads.check_served(client)
        metadata = client.get(f"one/{new.name}.metadata")
        assert sha256(metadata.body) == client.files("one")[new.name]["core-metadata"]["sha256"]
        (tmp_path / "other").mkdir()
        reply = client.upload(wheel(tmp_path / "other", "one", "2.0", payload=b"VALUE = 4\n"))
        assert reply.status == 409, str(reply)
        finished(update_index(root))
        uploads.check_served(client)
        # The journal still works after a truncated line.
        third = wheel(tmp_path, "one", "3.0", payload=b"VALUE = 3\n")
        uploads.add(third)
        uploads.send(client, third)
        assert not uploads.unacknowledged
        uploads.check_served(client)
        make_old(root)
        finished(update_index(root))
        assert leftovers(root) == []
        uploads.check_served(client)


def indexed(root: Path, filename: str) -> set[str]:
    """Return the file names in an index file, which must be complete."""
    index = decode_index((root / "cache" / "demo" / "storage" / filename).read_bytes(), filename)
    return {f.filename for name in index for f in getattr(index.project(name), "files", ())}


OLD = frozenset({"one-1.0-py3-none-any.whl"})
NEW = OLD | {f"more{n}-1.0-py3-none-any.whl" for n in range(12)}


@pytest.fixture(scope="module")
def indexed_roots(tmp_path_factory) -> dict[str, Path]:
    """Return, for each codec, a ROOT with an index and with files that the index does not list yet."""
    roots = {}
    for codec in ("toml", "json"):
        root = tmp_path_factory.mktemp(codec)
        folder = root / "cache" / "demo" / "storage"
        (folder / "one").mkdir(parents=True)
        wheel(folder / "one", "one", "1.0")
        finished(update_index(root, f"--index_filename=index.{codec}"))
        assert indexed(root, f"index.{codec}") == OLD
        for n in range(12):
            (folder / f"more{n}").mkdir()
            wheel(folder / f"more{n}", f"more{n}")
        roots[codec] = root
    return roots


@pytest.mark.timeout(300)
@pytest.mark.parametrize("codec", ["toml", "json"])
def test_update_index_killed_at_random_moments(tmp_path, indexed_roots, codec):
    chosen = seeded()
    flag, filename = f"--index_filename=index.{codec}", f"index.{codec}"
    started = time.monotonic()
    root = tmp_path / "whole"
    shutil.copytree(indexed_roots[codec], root)
    finished(update_index(root, flag))
    whole_run_s = time.monotonic() - started
    found = set()
    for number in range(KILLS):
        root = tmp_path / str(number)
        shutil.copytree(indexed_roots[codec], root)
        # Half of the runs are slowed down at writes, so that more kills hit them.
        slow = (
            [
                Fault("os.fsync", do="sleep 0.02"),
                Fault("os.fdatasync", do="sleep 0.02"),
                Fault("os.replace", do="sleep 0.02"),
            ]
            if number % 2
            else []
        )
        process = update_index(root, flag, program=PROGRAM, env=environment(*slow))
        time.sleep(chosen.uniform(0.3, 1.3) * whole_run_s)
        process.kill()
        process.communicate()
        found.add(check_whole(root, flag, filename))
        shutil.rmtree(root)
    print(f"found {found}")


UPDATE_STEPS = {
    "the first record's writing": Fault("os.write", r"staging/\w+\.tmp$", "kill", nth=1, when="after"),
    "the first record's link": Fault("os.link", r"\.meta$", "kill", nth=1),
    "after the first record's link": Fault("os.link", r"\.meta$", "kill", nth=1, when="after"),
    "the first record's place": Fault("os.replace", r"\.tmp$", "kill", nth=1, when="after"),
    "the index's fsync": Fault("os.fsync", r"storage/\.\w+\.tmp$", "kill"),
    "the index's place": Fault("os.replace", r"storage/index\.\w+$", "kill"),
    "after the index's place": Fault("os.replace", r"storage/index\.\w+$", "kill", when="after"),
    "the index folder's fsync": Fault("os.fsync", r"storage$", "kill"),
    "the journal's place": Fault("os.replace", r"journal$", "kill"),
    "after the journal's place": Fault("os.replace", r"journal$", "kill", when="after"),
}


@pytest.mark.parametrize("codec", ["toml", "json"])
@pytest.mark.parametrize("step", UPDATE_STEPS)
def test_update_index_killed_at_a_step(tmp_path, indexed_roots, published, codec, step):
    root = tmp_path / "root"
    shutil.copytree(indexed_roots[codec], root)
    shutil.copy(published / "cache" / "demo" / "journal", root / "cache" / "demo" / "journal")
    process = update_index(
        root, f"--index_filename=index.{codec}", program=PROGRAM, env=environment(UPDATE_STEPS[step])
    )
    finished(process, status=-9)
    check_whole(root, f"--index_filename=index.{codec}", f"index.{codec}")


def check_whole(root: Path, flag: str, filename: str) -> str:
    found = indexed(root, filename)
    assert found in (OLD, NEW), f"neither the old nor the new index: {sorted(found)}"
    finished(update_index(root, flag))
    assert indexed(root, filename) == NEW
    make_old(root)
    finished(update_index(root, flag))
    assert leftovers(root) == []
    assert indexed(root, filename) == NEW
    return "old" if found == OLD else "new"


def test_the_other_codecs_index_takes_its_place_whenever_the_run_ends(tmp_path):
    """If the run is interrupted before it deletes the old index, both exist and the new one is used."""
    storage = tmp_path / "root" / "cache" / "demo" / "storage"
    (storage / "one").mkdir(parents=True)
    wheel(storage / "one", "one", "1.0")
    finished(update_index(tmp_path / "root", "--index_filename=index.toml"))
    wheel(storage / "one", "one", "2.0")
    kill = Fault("os.replace", r"storage/index\.json$", "kill", when="after")
    finished(
        update_index(tmp_path / "root", "--index_filename=index.json", program=PROGRAM, env=environment(kill)),
        status=-9,
    )
    assert (storage / "index.toml").exists()
    # This server's `demo` is configured for index.toml.
    with running(tmp_path / "server", root=tmp_path / "root") as server:
        client = IndexClient.of(server)
        both = {"one-1.0-py3-none-any.whl", "one-2.0-py3-none-any.whl"}
        assert set(client.everything()) == both
        finished(update_index(tmp_path / "root", "--index_filename=index.toml"))
        assert [p.name for p in storage.glob("index.*")] == ["index.toml"]
        assert set(client.everything()) == both
