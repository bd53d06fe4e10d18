"""`pywharf copy` as people and scripts run it."""

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from support import parts
from support.certificates import certificates
from support.distributions.wheels import sdist, wheel
from support.github.repository import BRANCH, OWNER
from support.ports import free_port
from support.server.calling import call
from support.server.serving import PYWHARF, clean_environment, running
from support.server.terminal import on_terminal
from support.server.updating import finished, start
from support.storage.faults import PROGRAM, Fault, environment
from support.storage.volumes import volume
from support.waiting import wait_for

FILES = int(os.environ.get("PYWHARF_TEST_COPIED_FILES", "120"))
"""Distributions of the interrupted run; at full size 2000."""
CONFIG = """
[demo]
type = "file_system"
read_secret = "demo-read"
write_secret = "demo-write"
index_filename = "index.json"

[next]
type = "file_system"
write_secret = "next-write"
"""


@pytest.fixture
def root(tmp_path) -> Path:
    """Create an empty ROOT."""
    folder: Path = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def packages(tmp_path) -> Path:
    """Return a folder as pypiserver's, with a subfolder and a file that is no distribution."""
    folder: Path = tmp_path / "packages"
    (folder / "old").mkdir(parents=True)
    wheel(folder, "foo")
    sdist(folder / "old", "foo", "0.9")
    wheel(folder, "bar")
    (folder / "foo-1.0.egg").write_text("an egg")
    os.utime(folder / "old" / "foo-0.9.tar.gz", (1_500_000_000, 1_500_000_000))
    return folder


def copied(*arguments: str, status: int = 0, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Run the command. Return its summary."""
    summary: dict[str, Any] = json.loads(finished(start("copy", *arguments, env=env), status).splitlines()[0])
    return summary


def tree(root: Path, name: str = "demo") -> dict[str, bytes]:
    """Return the packages of a repo with their records, without what each storage sets itself."""
    storage = root / "cache" / name / "storage"
    found = (p for p in storage.rglob("*") if p.is_file() and not p.name.startswith((".", "index.")))
    return {str(p.relative_to(storage)): _without_stamp(p) for p in found} | {
        str(p.relative_to(storage)): p.read_bytes() for p in storage.rglob(".status.toml")
    }


def _without_stamp(path: Path) -> bytes:
    content = path.read_bytes()
    return re.sub(rb'(?m)^(stamp|revision) = ".*"\n', b"", content) if path.suffix == ".meta" else content


def test_a_folder_is_copied_once_and_its_index_written(root, packages):
    arguments = (str(packages), "file_system:demo", f"--root={root}")
    dry = copied(*arguments, "--dry_run")
    assert (dry["copied"], dry["dry_run"], dry["index"], tree(root)) == (3, True, None, {})
    first = copied(*arguments)
    assert (first["copied"], first["ignored"], first["unverified"], first["problems"]) == (3, 1, 0, [])
    assert (first["index"]["files"], first["index"]["changed"]) == (3, True)
    record = (root / "cache/demo/storage/foo/foo-0.9.tar.gz.meta").read_text()
    assert 'upload_time = "2017-07-14T02:40:00.000000Z"' in record
    second = copied(*arguments)
    assert (second["copied"], second["present"], second["index"]["changed"]) == (0, 3, False)


def test_repos_of_one_configuration(tmp_path, root, packages):
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    flags = (f"--root={root}", f"--config={config}")
    copied(str(packages), "file_system:demo", *flags)
    assert (root / "cache/demo/storage/index.json").exists()
    summary = copied("file_system:demo", "file_system:next", *flags, "--projects=foo*", "--no_update_index")
    assert (summary["copied"], summary["index"]) == (2, None)
    assert {path.partition("/")[0] for path in tree(root, "next")} == {"foo"}


def test_fields_and_roots_of_each_side(tmp_path, root, packages):
    other = tmp_path / "other"
    other.mkdir()
    copied(str(packages), "file_system:demo", f"--root={root}", "--to_index_filename", "index.json")
    assert (root / "cache/demo/storage/index.json").exists()
    summary = copied(
        "file_system:demo",
        "file_system:demo",
        f"--from-root={root}",
        f"--to_root={other}",
        env={"PYWHARF_COMMAND_TO_INDEX_FILENAME": "index.json"},
    )
    assert summary["copied"] == 3
    assert tree(root) == tree(other)
    assert (other / "cache/demo/storage/index.json").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ("nowhere file_system:demo --root={root}", 2, "there is no folder 'nowhere'"),
        ("{packages} file_system:demo --root={root} --projects=baz", 1, "The source holds no distribution"),
        ("http://127.0.0.1:9/ file_system:demo --root={root} --allowed_endpoints=h.example", 1, "not among the hosts"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(root, packages, arguments, status, says):
    said = finished(start("copy", *arguments.format(root=root, packages=packages).split()), status)
    assert says in said, said
    assert "Traceback" not in said
    assert tree(root) == {}


def test_on_a_terminal_there_is_a_bar_and_a_sentence(root, packages):
    status, shown = on_terminal([PYWHARF, "copy", str(packages), "file_system:demo", f"--root={root}"], {})
    assert status == 0, shown
    assert "Copying" in shown
    assert "3/3" in shown
    assert re.search(r"3 files \(\d+ bytes\) copied, 0 were there,.* The index is written\.\r?\n", shown), repr(shown)
    assert "{" not in shown


@pytest.fixture
def many(tmp_path) -> Path:
    """Return a folder of FILES distributions of some projects."""
    folder: Path = tmp_path / "many"
    folder.mkdir()
    for number in range(FILES // 2):
        wheel(folder, f"project-{number % 17}", f"1.{number}")
        sdist(folder, f"project-{number % 17}", f"1.{number}")
    return folder


@pytest.mark.timeout(max(120, FILES))
def test_killed_three_times_and_completed(root, many):
    """Each run is killed with -9 at another point of publishing; the last one completes, and copies on with state."""
    arguments = ("copy", str(many), "file_system:demo", f"--root={root}", "--parallel=3")
    points = (("os.link", "after"), ("os.fsync", "before"), ("os.replace", "before"))
    for number, (step, when) in enumerate(points, 1):
        fault = Fault(step, r"storage/", "kill", nth=FILES // 8 * number, when=when)
        process = start(*arguments, program=PROGRAM, env=environment(fault))
        process.communicate(timeout=200)
        assert process.returncode == -signal.SIGKILL
    before = len(list((root / "cache/demo/storage").rglob("*.meta")))
    assert 0 < before < FILES
    summary = json.loads(finished(start(*arguments)))
    assert (summary["copied"] + summary["present"], summary["problems"]) == (FILES, [])
    assert summary["copied"] < FILES
    assert summary["index"]["files"] == FILES
    stored = tree(root)
    for path in many.iterdir():
        name = f"{path.name.partition('-')[0].replace('_', '-')}/{path.name}"
        assert stored[name] == path.read_bytes()
        assert f'sha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"'.encode() in stored[f"{name}.meta"]
    finished(start("yank", "file_system", "demo", "project-1", "--version=1.1", f"--root={root}", "--reason=broken"))
    finished(start("set_status", "file_system", "demo", "project-2", "--status=archived", f"--root={root}"))
    copied("file_system:demo", "file_system:next", f"--root={root}")
    assert tree(root, "next") == tree(root)
    assert b"yanked" in b"".join(tree(root, "next").values())


def _killed_at(count: int, stored: Path, process: "subprocess.Popen[str]") -> None:
    """Kill a run as soon as so many files are recorded."""
    wait_for(lambda: len(list(stored.rglob("*.meta"))) >= count or process.poll() is not None, "files", longest_s=FILES)
    assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate(timeout=60)


@pytest.mark.timeout(max(120, FILES))
def test_through_a_bucket_killed_three_times_and_copied_on_with_its_state(root, many, s3):
    table = {key: str(value).lower() if isinstance(value, bool) else value for key, value in s3.table().items()}
    fields = {key: value for key, value in table.items() if key != "type"}
    stored = s3.folder / table["prefix"] / "storage"
    host, secret = s3.endpoint.removeprefix("http://"), {"KEYS": s3.secret}
    there = ("--to_secret_env=KEYS", *(f"--to_{key}={value}" for key, value in fields.items()))
    arguments = (
        "copy",
        str(many),
        "s3:team",
        f"--root={root}",
        "--parallel=3",
        f"--allowed_endpoints={host}",
        *there,
    )
    for number in range(1, 4):
        _killed_at(FILES // 5 * number, stored, start(*arguments, env=secret))
    summary = copied(*arguments[1:], env=secret)
    assert (summary["copied"] + summary["present"], summary["problems"]) == (FILES, [])
    assert 0 < summary["copied"] < FILES
    assert summary["index"]["files"] == FILES

    own = [f"--root={root}", f"--allowed_endpoints={host}", "--secret_env=KEYS"]
    own += [f"--{key}={value}" for key, value in fields.items()]
    finished(start("yank", "s3", "team", "project-1", "--version=1.1", "--reason=broken", *own, env=secret))
    finished(start("set_status", "s3", "team", "project-2", "--status=archived", *own, env=secret))
    back = ("--from_secret_env=KEYS", *(f"--from_{key}={value}" for key, value in fields.items()))
    copied("s3:team", "file_system:demo", f"--root={root}", f"--allowed_endpoints={host}", *back, env=secret)
    found = tree(root)
    for path in many.iterdir():
        name = f"{path.name.partition('-')[0].replace('_', '-')}/{path.name}"
        assert found[name] == path.read_bytes()
    yanked = {name for name, content in found.items() if name.endswith(".meta") and b'yanked = "broken"' in content}
    assert yanked == {f"project-1/{name}.meta" for name in ("project_1-1.1.tar.gz", "project_1-1.1-py3-none-any.whl")}
    assert b"archived" in found["project-2/.status.toml"]


def test_interrupted_by_hand_it_ends_soon_and_leaves_nothing_staged(root, many):
    slow = Fault("os.fsync", r"storage/", "sleep 0.05")
    process = start("copy", str(many), "file_system:demo", f"--root={root}", program=PROGRAM, env=environment(slow))
    wait_for(lambda: list(root.rglob("*.meta")), "the run is in its middle")
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode != 0, out + err
    assert time.monotonic() - sent < 10
    assert "Traceback" not in err
    assert not list((root / "cache/demo/staging").iterdir())


def test_a_full_disk_ends_the_run_and_room_completes_it(tmp_path, packages):
    (packages / "large").mkdir()
    wheel(packages / "large", "large", payload=os.urandom(3 * 1024 * 1024))
    with volume(tmp_path / "small", 8) as small:
        small.fill(leaving_bytes=1024 * 1024)
        arguments = ("copy", str(packages), "file_system:demo", f"--root={small.path}", "--parallel=1")
        said = finished(start(*arguments), status=1)
        assert "full" in said
        assert "Traceback" not in said
        small.free()
        assert json.loads(finished(start(*arguments)))["index"]["files"] == 4
        assert not list((small.path / "cache/demo/staging").iterdir())


def test_a_file_over_the_targets_limit_is_left_out(root, packages):
    summary = copied(str(packages), "file_system:demo", f"--root={root}", "--to_max_file_bytes=500", status=1)
    assert summary["copied"] == 1
    assert all("the target takes at most 500 (max_file_bytes)" in problem for problem in summary["problems"])


def test_from_a_server_of_our_own(tmp_path, root, packages):
    source = tmp_path / "source"
    source.mkdir()
    copied(str(packages), "file_system:demo", f"--root={source}")
    made = certificates(tmp_path / "certificates")
    trusting = {"SSL_CERT_FILE": str(made.authority)}
    with running(tmp_path / "server", made.flags, config=CONFIG, root=source) as server:
        server.secrets.add("demo-read")
        arguments = (
            server.repo(),
            "file_system:demo",
            f"--root={root}",
            "--from_user=demo",
            "--from_secret_env=SECRET",
        )
        summary = copied(*arguments, env={"SECRET": "demo-read", **trusting})
        assert (summary["copied"], summary["unverified"], summary["problems"]) == (3, 0, [])
        said = finished(start("copy", *arguments, env={"SECRET": "demo-read"}), status=1)
        assert "certificate is not trusted; name its CA with SSL_CERT_FILE" in said
        said = finished(start("copy", *arguments, env={"SECRET": "guess", **trusting}), status=1)
        assert "denies access" in said
        assert "guess" not in said
    assert tree(root) == tree(source)


def peer(program: str) -> str:
    """Return the path of another server's program. Skips the calling test if it is missing."""
    path = parts.peer(program)
    if not path.is_file():
        parts.missing(program, "make .venv-bench")
    return str(path)


@contextlib.contextmanager
def serving(command: Sequence[str], log: Path, port: int) -> Iterator[str]:
    """Run another server. Yield its URL."""
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command], stdout=output, stderr=output, env=clean_environment({"GUNICORN_CMD_ARGS": "--threads=8"})
        )
    try:
        wait_for(lambda: _answers(url, process, log), command[0])
        yield url
    finally:
        process.kill()
        process.wait(30)


def _answers(url: str, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        call(url)
    except OSError:
        return False
    return True


@pytest.mark.parametrize(("kind", "password"), [("wsgiref", None), ("wsgiref", "hunter2"), ("gunicorn", "hunter2")])
def test_from_pypiserver(tmp_path, root, packages, kind, password):
    """Its own server, wsgiref, takes one connection at a time; gunicorn runs eight threads."""
    port = free_port()
    users, access = ".", "."
    flags: list[str] = []
    if password is not None:
        digest = base64.b64encode(hashlib.sha1(password.encode(), usedforsecurity=False).digest()).decode()
        htpasswd = tmp_path / "htpasswd"
        htpasswd.write_text(f"reader:{{SHA}}{digest}\n")
        users, access = str(htpasswd), "list,download"
        flags = ["--from_user=reader", "--from_secret_env=SECRET"]
    command = [peer("pypi-server"), "run", "-i", "127.0.0.1", "-p", str(port), "-P", users, "-a", access]
    # Its cached-dir, the default if watchdog is installed, may lock up: a request for a digest and the thread that
    # watches the folder each wait for the other's lock.
    command += [f"--server={kind}", "--backend=simple-dir", "--disable-fallback", str(packages)]
    with serving(command, tmp_path / "log", port) as url:
        arguments = (f"{url}/simple/", "file_system:demo", f"--root={root}")
        if password is not None:
            assert "give them with --from_user" in finished(start("copy", *arguments), status=1)
        summary = copied(*arguments, *flags, env={"SECRET": password or ""})
        assert (summary["copied"], summary["ignored"], summary["unverified"], summary["problems"]) == (3, 1, 0, [])
        # The time of upload is the file's, which pypiserver sends as Last-Modified.
        assert b"2017-07-14T02:40:00" in tree(root)["foo/foo-0.9.tar.gz.meta"]


def test_from_simpleindex_which_lists_no_projects_and_gives_no_digests(tmp_path, root, packages):
    projects = tmp_path / "projects"
    for path in packages.rglob("*.whl"):
        (projects / path.name.partition("-")[0]).mkdir(parents=True)
        shutil.copy(path, projects / path.name.partition("-")[0])
    port = free_port()
    config = tmp_path / "simpleindex.toml"
    config.write_text(
        f'[server]\nhost = "127.0.0.1"\nport = {port}\n[routes."{{project}}"]\nsource = "path"\n'
        f'to = "{projects}/{{project}}"\n'
    )
    with serving([peer("simpleindex"), str(config)], tmp_path / "log", port) as url:
        arguments = (url, "file_system:demo", f"--root={root}")
        assert "or name the projects with --projects" in finished(start("copy", *arguments), status=2)
        summary = copied(*arguments, "--projects=foo,bar")
        assert (summary["copied"], summary["unverified"], summary["problems"]) == (2, 2, [])


def test_an_export_of_devpi(tmp_path, root, packages):
    export = tmp_path / "export"
    for path in [packages / "foo-1.0-py3-none-any.whl", packages / "old" / "foo-0.9.tar.gz"]:
        version = "1.0" if path.suffix == ".whl" else "0.9"
        folder = export / "team" / "dev" / "foo" / version
        folder.mkdir(parents=True)
        shutil.copy(path, folder)
    (export / "team/dev/foo/foo-1.0.doc.zip").write_bytes(b"documentation")
    entries = [
        {
            "type": "releasefile",
            "projectname": "foo",
            "version": path.parent.name,
            "relpath": str(path.relative_to(export)),
            "entrymapping": {"last_modified": "Fri, 14 Jul 2017 02:40:00 GMT", "hash_spec": "sha256=…"},
        }
        for path in export.rglob("foo-*")
        if path.suffix in {".whl", ".gz"}
    ]
    indexes = {"team/dev": {"indexconfig": {}, "projects": {}, "files": entries}, "team/empty": {"files": []}}
    described = export / "dataindex.json"
    described.write_text(json.dumps({"dumpversion": "2", "users": {}, "indexes": indexes}))
    summary = copied(str(export), "file_system:demo", f"--root={root}")
    assert (summary["copied"], summary["ignored"], summary["problems"]) == (2, 1, [])
    records = [content for name, content in tree(root).items() if name.endswith(".meta")]
    assert all(b"2017-07-14T02:40:00" in record for record in records)
    assert copied(str(export / "team" / "dev"), "file_system:demo", f"--root={root}")["present"] == 2
    indexes["team/prod"] = indexes["team/dev"]
    described.write_text(json.dumps({"indexes": indexes}))
    said = finished(start("copy", str(export), "file_system:demo", f"--root={root}"), status=2)
    assert f"give one of {export}/team/dev, {export}/team/prod" in said
    described.write_text("[")
    said = finished(start("copy", str(export), "file_system:demo", f"--root={root}"), status=2)
    assert "is not one that devpi-export writes" in said


def test_from_github_and_back(tmp_path, root, packages, github):
    """By default clients are redirected to GitHub's own storage; the command reads through the backend instead."""
    repository = github.repository()
    token = {"TOKEN": repository.token_of("write")}

    def fields(side: str) -> list[str]:
        given = {"owner": OWNER, "repo": repository.name, "branch": BRANCH, "api_url": github.url}
        return [*(f"--{side}_{name}={value}" for name, value in given.items()), f"--{side}_secret_env=TOKEN"]

    copied(str(packages), "file_system:demo", f"--root={root}")
    there = copied("file_system:demo", "github:demo", f"--root={root}", *fields("to"), env=token)
    assert (there["copied"], there["index"]["files"], repository.drafts()) == (3, 3, [])
    back = tmp_path / "back"
    back.mkdir()
    summary = copied("github:demo", "file_system:demo", f"--to_root={back}", *fields("from"), env=token)
    assert (summary["copied"], summary["problems"]) == (3, [])
    assert tree(back) == tree(root)
    again = copied("file_system:demo", "github:demo", f"--root={root}", *fields("to"), env=token)
    assert (again["copied"], again["present"]) == (0, 3)
