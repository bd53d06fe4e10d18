"""Changes are seen by every worker and replica, whatever runs beside them, and by real clients."""

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from support.clients.computer import Computer
from support.clients.publishing import upload
from support.distributions.wheels import wheel
from support.server.calling import Reply, ask, connect
from support.server.index_client import JSON, IndexClient
from support.server.repos import Repo
from support.server.serving import Server, running
from support.server.updating import finished, update_index
from support.waiting import wait_for

WITHIN_S = 2.0
GONE = (OSError, EOFError)
"""What a client of a killed server gets, besides errors of http.client, which are OSErrors or below."""


@contextlib.contextmanager
def updating(root: Path) -> Iterator[list[str]]:
    """Run update_index in a loop; yields the summaries so far."""
    stop = threading.Event()
    summaries: list[str] = []

    def loop() -> None:
        while not stop.is_set():
            summaries.append(finished(update_index(root, "--index_filename=index.json", name="other")))

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield summaries
    finally:
        stop.set()
        thread.join(60)


class Pinned:
    """A client that keeps one connection, and with it one worker."""

    def __init__(self, server: Server) -> None:
        self._url = f"{server.url}/repo/other/simple/"
        self._connection = connect(server.url)

    def close(self) -> None:
        self._connection.close()

    def get(self, path: str) -> Reply:
        return ask(self._connection, self._url + path, auth="other:other-read", headers=JSON)

    def file(self, project: str, name: str) -> dict[str, object] | None:
        reply = self.get(f"{project}/")
        files = reply.json()["files"] if reply.status == 200 else []
        return next((file for file in files if file["filename"] == name), None)


def test_workers_and_replicas_show_a_change_within_two_seconds(tmp_path):
    """While update_index runs in a loop: workers of one server immediately, the other replica within two seconds."""
    root = tmp_path / "root"
    with (
        running(tmp_path / "a", ["--workers=2"], root=root) as first,
        running(tmp_path / "b", ["--workers=2"], root=root) as second,
        updating(root) as summaries,
        contextlib.ExitStack() as stack,
    ):
        client = IndexClient.of(first, "other")
        own, others = (
            [stack.enter_context(contextlib.closing(Pinned(one))) for _ in range(6)] for one in (first, second)
        )
        for number in range(3):
            path = wheel(tmp_path, "acme", f"{number}.0")
            assert client.upload(path).status == 200
            _see(others, path.name, lambda file: file is not None)
            reason = f"r{number}"
            assert client.change("acme", "yank", filename=path.name, reason=reason).status == 200
            assert {(one.file("acme", path.name) or {}).get("yanked") for one in own} == {reason}
            _see(others, path.name, lambda file: file is not None and file["yanked"] is not False)
            assert client.change("acme", "delete", filename=path.name).status == 200
            for one in own:
                assert one.file("acme", path.name) is None
                assert one.get(f"acme/{path.name}").status == 404
            _see(others, path.name, lambda file: file is None)
            assert {one.get(f"acme/{path.name}").status for one in others} == {404}
        assert client.change("acme", "status", status="quarantined", reason="x").status == 200
        for one in own:
            assert one.get("acme/").json()["project-status"]["status"] == "quarantined"
        wait_for(
            lambda: all(b"quarantined" in one.get("acme/").body for one in others), "the status", longest_s=WITHIN_S
        )
        wait_for(lambda: len(summaries) >= 2, "update_index has run twice")
        for one in (*own, *others):
            assert one.get("acme/").json()["files"] == []


def _see(clients: list[Pinned], name: str, is_seen: Callable[[dict[str, object] | None], bool]) -> None:
    """Wait until all clients see a file of the project acme as it should be."""
    wait_for(lambda: all(is_seen(one.file("acme", name)) for one in clients), name, longest_s=WITHIN_S)


# --- real clients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_yanked_version_is_taken_only_where_it_is_pinned(repo: Repo, computer: Computer, tmp_path: Path, tool: str):
    files = [wheel(tmp_path, "acme", version, payload=f"VALUE = {version!r}\n".encode()) for version in ("1.0", "2.0")]
    upload(computer, repo.writing, *files)
    client = IndexClient(repo.server.url, repo.name, repo.writing.secret)
    assert client.change("acme", "yank", version="2.0", reason="broken on 3.13").status == 200
    python = computer.python()
    index = repo.reading.with_user
    install = python.pip_install(index) if tool == "pip" else python.uv_install(index)
    install.run(computer, "acme")
    assert python.installed() == {"acme": "1.0"}
    output = install.run(computer, "acme==2.0")
    assert python.installed() == {"acme": "2.0"}
    assert "broken on 3.13" in output.text
    assert client.change("acme", "delete", version="2.0").status == 200
    assert client.change("acme", "unyank", version="1.0").status == 200
    fresh = computer.python("fresh")
    install = fresh.pip_install(index) if tool == "pip" else fresh.uv_install(index)
    arguments = ("--no-cache-dir",) if tool == "pip" else ("--no-cache",)
    install.run(computer, "acme==2.0", *arguments, fails=True)
    install.run(computer, "acme", *arguments)
    assert fresh.installed() == {"acme": "1.0"}


def test_twine_is_told_that_a_name_was_deleted(repo: Repo, computer: Computer, tmp_path: Path):
    path = wheel(tmp_path, "acme", "1.0")
    upload(computer, repo.writing, path)
    client = IndexClient(repo.server.url, repo.name, repo.writing.secret)
    assert client.change("acme", "delete", version="1.0").status == 200
    index = repo.writing
    output = computer.run(
        "twine", "upload", "--non-interactive", f"--repository-url={index.url}", "-u", index.user, "-p", index.secret,
        path, fails=True,
    )  # fmt: skip
    assert "409" in output.text
    said = f"File already exists: {path.name} was deleted, and its name stays taken"
    assert said in " ".join(output.text.split())


# --- everything concurrently -----------------------------------------------------------------------------------------

UPLOADS, YANKS, DELETES = 60, 18, 12


class Wanted:
    """What clients were told: of each file whether it is published, yanked (with the reason) or deleted."""

    def __init__(self) -> None:
        self.published: set[str] = set()
        self.yanked: dict[str, str] = {}
        self.deleted: set[str] = set()


def _until_answered(clients: list[IndexClient], send: Callable[[IndexClient], Reply]) -> Reply:
    """Send the same request to one replica after another until one answers; some are dead."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for client in random.sample(clients, len(clients)):
            with contextlib.suppress(*GONE):
                reply = send(client)
                if reply.status < 500:
                    return reply
        time.sleep(0.02)
    raise AssertionError("no replica answers")


def test_no_acknowledged_change_is_lost_while_a_replica_is_killed(tmp_path):
    """Uploads, yanks and deletes through two replicas, with update_index in a loop and kill -9 of one of them."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chosen = random.Random(seed)
    root = tmp_path / "root"
    wheels = [wheel(tmp_path, f"p{number % 5}", f"{number}.0") for number in range(UPLOADS)]
    wanted = Wanted()
    stop = threading.Event()
    with running(tmp_path / "a", root=root) as first, contextlib.ExitStack() as stack:
        dying: list[Server] = []

        def revive() -> None:
            dying.append(stack.enter_context(running(tmp_path / f"b{len(dying)}", root=root)))

        revive()
        kills = 0

        def clients() -> list[IndexClient]:
            return [IndexClient.of(first, "other"), IndexClient.of(dying[-1], "other")]

        def kill_now_and_then() -> None:
            nonlocal kills
            while not stop.wait(chosen.uniform(0.2, 0.6)):
                dying[-1].stop(signal.SIGKILL)
                kills += 1
                revive()

        killer = threading.Thread(target=kill_now_and_then)
        with updating(root):
            killer.start()
            try:
                for number, path in enumerate(wheels):
                    reply = _until_answered(clients(), partial(_upload, path))
                    assert reply.status == 200, str(reply)
                    wanted.published.add(path.name)
                    _change_some(number, chosen, clients(), wanted)
            finally:
                stop.set()
                killer.join()
        assert kills >= 1
        finished(update_index(root, "--index_filename=index.json", name="other"))
        for server in (first, dying[-1]):
            client = IndexClient.of(server, "other")
            wait_for(partial(_serves, client, wanted.published), "the final state is shown")
            assert {name: reason for name, reason in _served(client).items() if reason} == wanted.yanked
            assert all(client.get(f"{name.partition('-')[0]}/{name}").status == 404 for name in wanted.deleted)
    assert len(wanted.deleted) == DELETES
    left = {path.name for path in (root / "cache" / "other" / "storage").glob("*/*.whl")}
    assert left == wanted.published


def _change_some(number: int, chosen: random.Random, clients: list[IndexClient], wanted: Wanted) -> None:
    every = UPLOADS // YANKS
    name = chosen.choice(sorted(wanted.published))
    project = name.partition("-")[0]
    if number % every == 0 and len(wanted.yanked) < YANKS:
        reason = f"reason {number}"
        reply = _until_answered(clients, lambda client: client.change(project, "yank", filename=name, reason=reason))
        assert reply.status == 200, str(reply)
        wanted.yanked[name] = reason
    elif number % every == 1 and len(wanted.deleted) < DELETES:
        reply = _until_answered(clients, lambda client: client.change(project, "delete", filename=name))
        assert reply.status == 200, str(reply)
        wanted.deleted.add(name)
        wanted.published.discard(name)
        wanted.yanked.pop(name, None)


def _upload(path: Path, client: IndexClient) -> Reply:
    return client.upload(path)


def _serves(client: IndexClient, names: set[str]) -> bool:
    return _served(client).keys() == names


def _served(client: IndexClient) -> dict[str, str]:
    """Return all files with the reason why they are yanked, or ""."""
    return {name: file["yanked"] or "" for project in client.projects() for name, file in client.files(project).items()}
