"""`pywharf yank`, `unyank`, `delete` and `set-status` as people and scripts run them, beside a running server."""

import json
import os
import pty
import select
import subprocess
import time
import zlib
from pathlib import Path

import pytest

from support.distributions.wheels import sdist, wheel
from support.server.index_client import IndexClient
from support.server.serving import PYWHARF, clean_environment, running
from support.server.updating import finished, start
from support.waiting import stretched, wait_for

WITHIN_S = 2.0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("commands")) as server:
        yield server


@pytest.fixture
def client(server) -> IndexClient:
    return IndexClient.of(server)


@pytest.fixture
def names(client, tmp_path, request) -> tuple[str, list[str]]:
    """Publish a wheel and an sdist of a project of the test's own; returns its name and theirs."""
    project = f"acme-{zlib.crc32(request.node.name.encode())}"
    files = [wheel(tmp_path, project), sdist(tmp_path, project)]
    assert {client.upload(file).status for file in files} == {200}
    return project, sorted(file.name for file in files)


def changed(server, *arguments: str, status: int = 0, **env: str) -> str:
    return finished(start(*arguments, f"--root={server.root}", env=env), status)


def yanked(client: IndexClient, project: str) -> dict[str, object]:
    return {name: file["yanked"] for name, file in client.files(project).items() if file["yanked"] is not False}


def shown(condition, what: str) -> None:
    began = time.monotonic()
    wait_for(condition, what)
    assert time.monotonic() - began < stretched(WITHIN_S), what


def test_each_command_shows_on_a_running_server(server, client, names):
    project, (first, second) = names
    out = changed(server, "yank", "file_system", "demo", project, "--version=1", "--reason=broken on Windows")
    assert json.loads(out) == {"project": project, "files": [first, second]}
    shown(lambda: yanked(client, project) == dict.fromkeys((first, second), "broken on Windows"), "the yank")
    out = changed(server, "unyank", "file_system", "demo", project.upper(), f"--filename={first}")
    assert json.loads(out) == {"project": project, "files": [first]}
    shown(lambda: yanked(client, project) == {second: "broken on Windows"}, "the unyank")
    out = changed(server, "set-status", "file_system", "demo", project, "--status=deprecated", "--reason=use bar")
    assert json.loads(out) == {"project": project, "status": "deprecated"}
    shown(lambda: b"deprecated" in client.get(f"{project}/").body, "the status")
    out = changed(server, "delete", "file_system", "demo", project, f"--filename={second}", "--yes")
    assert json.loads(out) == {"project": project, "files": [second]}
    shown(lambda: client.get(f"{project}/{second}").status == 404, "the deletion")
    shown(lambda: list(client.files(project)) == [first], "the page without it")


def test_the_environment_mode_and_a_configuration(server, client, names, tmp_path):
    project, (first, _) = names
    config = tmp_path / "config.toml"
    config.write_text('[demo]\ntype = "file_system"\nread_secret = "demo-read"\nwrite_secret = "demo-write"\n')
    settings = {
        "COMMAND": "set_status",
        "COMMAND_TYPE": "file_system",
        "COMMAND_NAME": "demo",
        "COMMAND_PROJECT": project,
        "COMMAND_STATUS": "archived",
        "COMMAND_ROOT": str(server.root),
        "COMMAND_CONFIG": str(config),
        "COMMAND_SECRET_ENV": "THE_SECRET",
    }
    env = {f"PYWHARF_{name}": value for name, value in settings.items()}
    assert json.loads(finished(start(env={**env, "THE_SECRET": "demo-write"})))["status"] == "archived"
    assert "is not the write secret" in finished(start(env={**env, "THE_SECRET": "demo-read"}), 1)
    del env["PYWHARF_COMMAND_STATUS"]
    env |= {"PYWHARF_COMMAND": "yank", "PYWHARF_COMMAND_FILENAME": first, "THE_SECRET": "demo-write"}
    assert json.loads(finished(start(env=env)))["files"] == [first]
    shown(lambda: yanked(client, project) == {first: True}, "the yank")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("yank", "{p}"), 2, "Give either the filename of one file, or the version of a whole release."),
        (("yank", "{p}", "--version=1.0", "--filename=x"), 2, "Give either the filename"),
        (("yank", "{p}", "--version=9.9"), 1, "no file of version '9.9'"),
        (("yank", "nothing-here", "--version=1.0"), 1, "no file of version '1.0'"),
        (("yank", "{p}", "--version=x y"), 2, "must be a version"),
        (("yank", "{p}", "--version=1.0", "--reason=a\x1bb"), 2, "printable text on one line"),
        (("yank", "-p", "--version=1.0"), 2, ""),
        (("yank", "{p}", "--version=1.0", "--raeson=x"), 2, "Did you mean --reason?"),
        (("yank", "{p}", "1.0"), 2, "After the names come flags only"),
        (("delete", "{p}", "--version=1.0"), 2, "there is no terminal: give --yes"),
        (("delete", "{p}", "--filename=gone.whl", "--yes"), 1, "no recorded file"),
        (("set_status", "{p}", "--status=gone"), 2, "is not one of"),
        (("set_status", "{p}"), 2, "Missing option"),
        (("set_status", "nothing-here", "--status=active"), 1, "holds no project"),
        (("set_status", "no name", "--status=active"), 2, "PROJECT: "),
    ],
)
def test_what_is_refused(server, client, names, arguments, status, said):
    project, files = names
    command, *rest = (argument.format(p=project) for argument in arguments)
    out = changed(server, command, "file_system", "demo", *rest, status=status)
    assert said in out
    assert "Traceback" not in out
    assert sorted(client.files(project)) == files
    assert yanked(client, project) == {}


def test_a_freed_name_is_published_again(server, client, names, tmp_path):
    project, (first, _) = names
    changed(server, "delete", "file_system", "demo", project, f"--filename={first}", "--yes")
    assert client.upload(tmp_path / first).status == 409
    changed(server, "delete", "file_system", "demo", project, f"--filename={first}", "--yes", "--free-name")
    again = client.upload(tmp_path / first)
    assert again.status == 200, str(again)
    shown(lambda: first in client.files(project), "the file")
    assert client.get(f"{project}/{first}").body == (tmp_path / first).read_bytes()


@pytest.mark.parametrize(("answer", "is_deleted"), [(b"y\n", True), (b"n\n", False), (b"\n", False)])
def test_on_a_terminal_it_asks(server, client, names, answer, is_deleted):
    project, files = names
    screen, status = _on_a_terminal(server.root, project, answer)
    assert f"Delete these {len(files)} files for good?" in screen
    assert all(name in screen for name in files)
    assert (status == 0) == is_deleted
    if is_deleted:
        assert f"{project}: 2 files deleted:" in screen
        shown(lambda: client.files(project) == {}, "the deletion")
    else:
        assert sorted(client.files(project)) == files


def _on_a_terminal(root: Path, project: str, answer: bytes) -> tuple[str, int]:
    terminal, inner = pty.openpty()
    command = [PYWHARF, "delete", "file_system", "demo", project, "--version=1.0", f"--root={root}"]
    process = subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner, env=clean_environment())
    os.close(inner)
    screen = b""
    answered = False
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    screen += os.read(terminal, 65536)
                except OSError:  # the process has closed the terminal
                    break
            if b"[y/N]" in screen and not answered:
                os.write(terminal, answer)
                answered = True
        status = process.wait(30)
    finally:
        process.kill()
        os.close(terminal)
    return screen.decode().replace("\r\n", "\n"), status
