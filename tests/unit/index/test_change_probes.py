"""Check probes: what changes the probe of a file_system repo, and that many run in few batches of a thread."""

import asyncio
import shutil
import threading
from pathlib import Path

import pytest

from pywharf.backends.file_system.backend import FileSystemBackend
from pywharf.core.errors import BackendUnavailableError
from pywharf.core.names import ProjectName
from pywharf.index.change_probes import ChangeProbes
from pywharf.index.update import update_index
from support.distributions.wheels import wheel
from support.storage.uploads import publish


@pytest.fixture
def made(tmp_path):
    (tmp_path / "made").mkdir()
    return tmp_path / "made"


async def update(folder: Path, index_name: str) -> None:
    backend = FileSystemBackend(folder, index_name, None)
    await update_index(backend, backend_type="file_system", index_name=index_name, progress=lambda _n, _what: None)


async def test_whatever_another_server_does_changes_the_probe(tmp_path, made):
    folder = tmp_path / "repo"
    backend, other = (FileSystemBackend(folder, "index.toml", None) for _ in range(2))
    with pytest.raises(FileNotFoundError):
        other.probe()
    await other.read_journal()
    seen = [other.probe()]
    steps = {
        "an upload": lambda: publish(backend, wheel(made, "foo", "1.0")),
        "another one": lambda: publish(backend, wheel(made, "foo", "2.0")),
        "an index, which folds the journal": lambda: update(folder, "index.toml"),
        "an upload after it": lambda: publish(backend, wheel(made, "foo", "3.0")),
        "an index of the other codec": lambda: update(folder, "index.json"),
    }
    for what, step in steps.items():
        assert other.probe() == seen[-1]
        await step()
        assert other.probe() not in seen, what
        seen.append(other.probe())
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError):
        other.probe()


async def test_many_are_taken_in_few_batches():
    change_probes = ChangeProbes()
    threads: set[int] = set()

    def probe() -> str:
        threads.add(threading.get_ident())
        return "as it was"

    def failing() -> str:
        raise OSError

    taken = [asyncio.create_task(change_probes.take(probe)) for _ in range(250)]
    failed = [asyncio.create_task(change_probes.take(failing)) for _ in range(2)]
    await asyncio.sleep(0)
    taken.pop().cancel()
    assert set(await asyncio.gather(*taken)) == {"as it was"}
    first, second = await asyncio.gather(*failed)
    assert first != second
    assert threading.get_ident() not in threads
    assert len(threads) <= 3
    assert await change_probes.take(probe) == "as it was"


async def test_a_storage_that_does_not_answer_holds_up_no_other():
    change_probes = ChangeProbes()
    answers = threading.Event()
    held = asyncio.create_task(change_probes.take(lambda: answers.wait(20)))
    try:
        await asyncio.sleep(0.1)  # its batch has begun
        async with asyncio.timeout(10):
            assert await change_probes.take(lambda: "another") == "another"
        assert not held.done()
    finally:
        answers.set()
    assert await held


async def test_a_storage_that_hangs_holds_up_no_other_for_long(monkeypatch):
    """More probes hang than there are slots. A probe that is never answered counts as changed and is dropped."""
    monkeypatch.setattr("pywharf.index.change_probes._LONGEST_S", 0.2)
    released = threading.Event()
    change_probes = ChangeProbes()
    try:
        for _ in range(3):
            asked = [change_probes.take(released.wait) for _ in range(10)]
            found = await asyncio.gather(*asked)
            assert len(set(map(id, found))) == 10
            assert True not in found
        assert await change_probes.take(lambda: "as before") == "as before"
        assert change_probes._waiting == []  # noqa: SLF001 - the test is about what it keeps
    finally:
        released.set()


async def test_a_call_that_hangs_is_given_up_and_its_thread_stays_counted(tmp_path, monkeypatch):
    """A repo whose volume hangs therefore occupies a bounded number of threads, however often it is read."""
    backend = FileSystemBackend(tmp_path / "repo", "index.json", None)
    await backend.read_journal()
    released = threading.Event()
    running = threading.Semaphore(0)

    def hang(*_: object) -> None:
        running.release()
        released.wait()

    monkeypatch.setattr(backend, "_find_project", hang)
    try:
        with monkeypatch.context() as shorter:
            shorter.setattr("pywharf.backends.file_system.backend.CALL_S", 0.2)
            asked = (backend.find_project(ProjectName("foo")) for _ in range(20))
            for error in await asyncio.gather(*asked, return_exceptions=True):
                assert isinstance(error, BackendUnavailableError)
                assert "did not answer within" in str(error)
        begun = 0
        while running.acquire(blocking=False):
            begun += 1
        assert begun == 16
        other = FileSystemBackend(tmp_path / "other", "index.json", None)
        assert (await other.read_journal()).entries == ()
    finally:
        released.set()
