"""`pywharf update_index` as people, CronJobs and terminals run it."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pywharf.backends.file_system.backend import FileSystemBackend
from pywharf.core.errors import IndexConflictError
from pywharf.index.codecs import decode_index, encode_index
from pywharf.index.ports import Progress
from pywharf.index.update import update_index as update
from support.distributions.wheels import sdist, wheel
from support.server.serving import PYWHARF, clean_environment
from support.server.terminal import on_terminal
from support.server.updating import finished, start, update_index
from support.storage.faults import PROGRAM, Fault, environment
from support.waiting import wait_for

CONFIG = """
[demo]
type = "file_system"
read_secret = "demo-read"
write_secret = "demo-write"
index_filename = "index.json"

[kept]
type = "memory"
"""
ADMIN_SECRET = """
[demo]
type = "file_system"
raw = "anything"
"""


@pytest.fixture
def root(tmp_path) -> Path:
    """Return a ROOT with a wheel of `one` and an sdist of `two`, put there by hand."""
    made: Path = tmp_path / "root"
    for project in ("one", "two"):
        (made / "cache" / "demo" / "storage" / project).mkdir(parents=True)
    wheel(made / "cache" / "demo" / "storage" / "one", "one")
    sdist(made / "cache" / "demo" / "storage" / "two", "two", "2.0")
    return made


def index_files(root: Path) -> list[str]:
    return sorted(p.name for p in (root / "cache" / "demo" / "storage").glob("index.*"))


def indexed(root: Path, filename: str = "index.toml") -> set[str]:
    """Return the file names in an index, which must be complete."""
    index = decode_index((root / "cache" / "demo" / "storage" / filename).read_bytes(), filename)
    return {f.filename for name in index for f in getattr(index.project(name), "files", ())}


def totals(root: Path) -> dict[str, object]:
    files = [p for p in root.rglob("*") if p.name.endswith((".whl", ".tar.gz"))]
    return {"projects": 2, "files": 2, "bytes": sum(p.stat().st_size for p in files), "problems": []}


BOTH = {"one-1.0-py3-none-any.whl", "two-2.0.tar.gz"}
SECRET = {"THE_SECRET": "demo-write", "WRONG": "demo-read"}


@pytest.mark.parametrize(
    ("arguments", "env", "index_file"),
    [
        ("file_system demo --root={root}", {}, "index.toml"),
        ("file_system demo --root {root} --index_filename index.json", {}, "index.json"),
        ("file_system demo --root={root} --index-filename=index.json", {}, "index.json"),
        ("file_system DEMO --root={root} --index_filename=own-name.json", {}, "own-name.json"),
        ("--root={root} file_system demo --index_filename=index.json", {}, "index.json"),
        ("file_system demo --root={root} --secret=anything", {}, "index.toml"),
        ("file_system demo --root={root} --write_secret=demo-write --secret=demo-write", {}, "index.toml"),
        ("file_system demo --root={root} --config={config}", {}, "index.json"),
        ("file_system demo --root={root} --config={config} --admin_secret={admin}", {}, "index.json"),
        ("file_system demo --root={root} --config={config} --secret=demo-write", {}, "index.json"),
        ("file_system demo --root={root} --config={config} --secret_env=THE_SECRET", SECRET, "index.json"),
        ("file_system demo --root={root} --config={config} --secret-env THE_SECRET", SECRET, "index.json"),
        ("file_system demo --root={root} --max_file_bytes=10 --owner=ml/demo --anonymous_read", {}, "index.toml"),
        (
            "",
            {
                "PYWHARF_COMMAND": "update_index",
                "PYWHARF_COMMAND_TYPE": "file_system",
                "PYWHARF_COMMAND_NAME": "demo",
                "PYWHARF_COMMAND_ROOT": "{root}",
                "PYWHARF_COMMAND_INDEX_FILENAME": "index.json",
                "PYWHARF_COMMAND_SECRET_ENV": "THE_SECRET",
            }
            | SECRET,
            "index.json",
        ),
        (
            "file_system demo",
            {"PYWHARF_COMMAND_ROOT": "{root}", "PYWHARF_COMMAND_CONFIG": "{config}"},
            "index.json",
        ),
    ],
)
def test_writes_the_index_and_says_so_in_json(tmp_path, root, arguments, env, index_file):
    places = named_in(tmp_path, root)
    command = ["update_index", *arguments.format(**places).split()] if arguments else []
    started = time.time()
    process = start(*command, env={k: v.format(**places) for k, v in env.items()})
    summary = json.loads(finished(process))
    assert summary == totals(root) | {"changed": True}
    assert [p.name for p in (root / "cache" / "demo" / "storage").glob("*.*") if p.is_file()] == [index_file]
    assert indexed(root, index_file) == BOTH
    storage = root / "cache" / "demo" / "storage"
    assert started - 1 < decode_index((storage / index_file).read_bytes(), index_file).mtime < time.time() + 1


def named_in(folder: Path, root: Path) -> dict[str, str]:
    config, admin = folder / "config.toml", folder / "admin_secret.toml"
    config.write_text(CONFIG)
    admin.write_text(ADMIN_SECRET)
    return {"root": str(root), "config": str(config), "admin": str(admin), "folder": str(folder)}


def test_a_second_run_changes_nothing_and_says_so(root):
    assert json.loads(finished(update_index(root)))["changed"] is True
    path = root / "cache" / "demo" / "storage" / "index.toml"
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert json.loads(finished(update_index(root))) == totals(root) | {"changed": False}
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@pytest.mark.parametrize("damage", [b"", b"mtime = ", b"{}", b"\xff\xfe", b'mtime = "no number"\n'], ids=repr)
@pytest.mark.parametrize("filename", ["index.toml", "index.json"])
def test_a_broken_index_is_replaced(root, filename, damage):
    (root / "cache" / "demo" / "storage" / filename).write_bytes(damage)
    assert json.loads(finished(update_index(root, f"--index_filename={filename}")))["changed"] is True
    assert indexed(root, filename) == BOTH


WRONG = [
    # arguments, status, what the error says
    ("file_system demo --root={root} --secert=x", 2, "no flag '--secert'. Did you mean --secret?"),
    ("file_system demo --root={root} --index_filenam=x", 2, "Did you mean --index_filename?"),
    ("file_system demo --root={root} --nothing_like_it=1", 2, "has no flag '--nothing_like_it'."),
    ("file_system --write_secret=guess demo --root={root}", 2, "TYPE and NAME come before the backend's flags"),
    ("--write_secret=guess file_system demo --root={root}", 2, "TYPE and NAME come before the backend's flags"),
    ("file_system demo extra --root={root}", 2, "After TYPE and NAME come flags only"),
    ("file_sistem demo --root={root}", 2, "TYPE is 'file_sistem'; the backends installed here are "),
    ("file_sistem demo --root={root}", 2, "Did you mean file_system?"),
    ("file_system --root={root}", 2, "Missing argument 'NAME'"),
    ("", 2, "Missing argument 'TYPE'"),
    ("file_system no/name --root={root}", 2, "NAME: 'no/name' is not a valid repo name"),
    ("file_system .. --root={root}", 2, "NAME: '..' is not a valid repo name"),
    ("file_system demo --root={folder}/nowhere", 2, "--root: there is no folder"),
    ("file_system demo --root={root} --max_file_bytes=many", 2, "max_file_bytes is 'many'"),
    ("file_system demo --root={root} --index_filename=index.yaml", 2, "index_filename is 'index.yaml'"),
    ("file_system demo --root={root} --index_filename=../index.toml", 2, "index_filename is '../index.toml'"),
    ("file_system demo --root={root} --anonymous_read=perhaps", 2, "anonymous_read is 'perhaps'"),
    ("file_system demo --root={root} --secret=a --secret_env=THE_SECRET", 2, "do not go together; give one"),
    ("file_system demo --root={root} --secret=a --secret_file=b", 2, "--secret and --secret_file do not go together"),
    ("file_system demo --root={root} --secret_file={folder}/nowhere", 2, "--secret_file: its file cannot be read: No"),
    ("file_system demo --root={root} --secret_file={folder}", 2, "--secret_file: its file cannot be read: Is a dir"),
    ("file_system demo --root={root} --secret_file=/dev/null", 2, "--secret_file: the file is empty; give the secret"),
    ("file_system demo --root={root} --secret_env=NOT_SET", 2, "the environment variable NOT_SET is empty or not set"),
    ("file_system demo --root={root} --admin_secret={admin}", 2, "--admin_secret goes with --config"),
    ("file_system demo --root={root} --config={folder}/nowhere", 2, "nowhere cannot be read: No such file"),
    ("file_system demo --root={root} --config={config} --owner=x", 2, "--config and --owner do not go together"),
    ("file_system demmo --root={root} --config={config}", 2, "has no table [demmo]. Did you mean demo?"),
    ("file_system kept --root={root} --config={config}", 2, "has the type 'memory'"),
    ("memory demo --root={root} --config={config}", 2, "has the type 'file_system'"),
    (
        "file_system demo --root={root} --config={config} --secret=demo-read",
        1,
        "is not the write secret of the repo 'd",
    ),
    (
        "file_system demo --root={root} --config={config} --secret_env=WRONG",
        1,
        "is not the write secret of the repo 'd",
    ),
    ("file_system demo --root={root} --write_secret=demo-write --secret=guess", 1, "not the write secret"),
]


@pytest.mark.parametrize(("arguments", "status", "says"), WRONG)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(tmp_path, root, arguments, status, says):
    said = finished(start("update_index", *arguments.format(**named_in(tmp_path, root)).split(), env=SECRET), status)
    assert says in said, said
    assert "Traceback" not in said
    error = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert len(error) == 1, said
    for secret in ("demo-read", "demo-write", "guess"):
        assert secret not in said, f"the secret {secret} is shown: {said}"
    assert index_files(root) == []
    assert sorted(p.name for p in root.iterdir()) == ["cache"]


def test_problems_are_in_the_summary_and_on_stderr(root):
    (root / "cache" / "demo" / "storage" / "one" / "one-9.0-py3-none-any.whl").write_text("no zip")
    process = update_index(root)
    out, err = process.communicate(timeout=60)
    summary = json.loads(out)
    assert (process.returncode, summary["files"], len(summary["problems"])) == (0, 2, 1)
    assert "one/one-9.0-py3-none-any.whl is left out: " in summary["problems"][0]
    assert summary["problems"][0] in err


def test_the_report_is_the_summary(tmp_path, root):
    report = tmp_path / "report.json"
    report.write_text("old and longer than what comes" * 100)
    out = finished(update_index(root, f"--report={report}"))
    assert json.loads(report.read_text()) == json.loads(out) == totals(root) | {"changed": True}
    said = finished(update_index(root, f"--report={tmp_path}/no/folder"), status=2)
    assert "--report: the index is written, but not" in said
    assert "Traceback" not in said


def test_the_secret_comes_from_a_file(tmp_path, root):
    secret = tmp_path / "secret"
    places = named_in(tmp_path, root)
    for content, status in (("demo-write\r\n", 0), ("demo-write", 0), ("demo-read\n", 1)):
        secret.write_bytes(content.encode())
        arguments = [f"--config={places['config']}", f"--admin_secret={places['admin']}", f"--secret_file={secret}"]
        said = finished(update_index(root, *arguments), status)
        assert content.strip() not in said


def test_a_failure_is_in_the_report(tmp_path, root):
    report = tmp_path / "report.json"
    said = finished(update_index(root, f"--report={report}", "--write_secret=demo-write", "--secret=guess"), status=1)
    assert json.loads(report.read_text()) == {"error": "The secret given is not the write secret of the repo 'demo'."}
    assert "Error: The secret given" in said
    # If the report cannot be written either, the failure itself is reported.
    said = finished(update_index(root, f"--report={tmp_path}/no/folder", "--secret_env=NOT_SET"), status=2)
    assert "Error: --secret_env" in said
    assert "no/folder' cannot be written" in said


def test_the_report_is_written_to_what_cannot_be_replaced(root):
    """A container's termination message is such a file, because it is a mount of its own. Here it is a pipe."""
    reading, writing = os.pipe()
    try:
        command = [PYWHARF, "update_index", "file_system", "demo", f"--root={root}", f"--report=/dev/fd/{writing}"]
        subprocess.run(
            command, check=True, capture_output=True, env=clean_environment(), timeout=60, pass_fds=[writing]
        )
        assert json.loads(os.read(reading, 5000)) == totals(root) | {"changed": True}
    finally:
        os.close(reading)
        os.close(writing)


def test_on_a_terminal_there_is_progress_and_a_sentence(root):
    # Slow enough that progress is shown, which happens at most five times a second.
    slow = Fault("os.write", r"staging/\w+\.tmp$", "sleep 0.3")
    command = ["update_index", "file_system", "demo", f"--root={root}"]
    status, shown = on_terminal([*PROGRAM, *command], environment(slow))
    assert status == 0, shown
    assert "0 files scanned, now one" in shown
    assert "1 files scanned, now two" in shown
    size = totals(root)["bytes"]
    assert re.search(rf"\x1b\[K2 projects, 2 files, {size} bytes: the index is written\.\r?\n$", shown), repr(shown)
    assert "{" not in shown
    status, shown = on_terminal([PYWHARF, *command], {})
    assert shown.strip().endswith("the index is unchanged."), repr(shown)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_the_old_index_and_ends_soon(root, number):
    finished(update_index(root))
    path = root / "cache" / "demo" / "storage"
    before = (path / "index.toml").read_bytes()
    for n in range(40):
        (path / f"more{n}").mkdir()
        wheel(path / f"more{n}", f"more{n}")
    slow = Fault("os.write", r"staging/\w+\.tmp$", "sleep 0.1")
    process = update_index(root, program=PROGRAM, env=environment(slow))
    wait_for(lambda: len(list(path.with_name("staging").glob("*.tmp"))) > 3, "the run is in its middle")
    process.send_signal(number)
    sent = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode != 0, out + err
    assert time.monotonic() - sent < 5
    assert "Traceback" not in err, err
    assert "projects" not in out
    assert (path / "index.toml").read_bytes() == before
    finished(update_index(root))
    assert len(indexed(root)) == 42


@pytest.mark.parametrize("filename", ["index.toml", "index.json"])
def test_concurrent_runs_leave_a_whole_index(root, filename):
    for n in range(30):
        folder = root / "cache" / "demo" / "storage" / f"more{n}"
        folder.mkdir()
        wheel(folder, f"more{n}")
    runs = [update_index(root, f"--index_filename={filename}") for _ in range(4)]
    statuses = []
    for run in runs:
        out, err = run.communicate(timeout=100)
        statuses.append(run.returncode)
        assert run.returncode == 0 or "The index was replaced by another writer" in err, f"{run.returncode}: {out}{err}"
        assert run.returncode != 0 or json.loads(out)["files"] == 32
    assert 0 in statuses
    assert len(indexed(root, filename)) == 32
    assert index_files(root) == [filename]
    assert not list(root.rglob("*.tmp"))


def test_a_run_that_another_overtook_reads_again(root):
    """The first run is slow after it read the index. It does not lose what the second finds later."""
    storage = root / "cache" / "demo" / "storage"
    slow = Fault("os.write", r"staging/\w+\.tmp$", "sleep 6", nth=3)  # one file has two records
    first = update_index(root, program=PROGRAM, env=environment(slow))
    staging = storage.with_name("staging")
    wait_for(lambda: len(list(staging.glob("*.tmp"))) > 2, "the first run is in its middle")
    (storage / "an-early-name").mkdir()
    wheel(storage / "an-early-name", "an-early-name")
    assert json.loads(finished(update_index(root)))["files"] == 3
    assert indexed(root) == BOTH | {"an_early_name-1.0-py3-none-any.whl"}
    assert json.loads(finished(first)) == totals(root) | {"projects": 3, "files": 3, "changed": False}
    assert indexed(root) == BOTH | {"an_early_name-1.0-py3-none-any.whl"}


class Overtaken(FileSystemBackend):
    """A backend whose index somebody else writes during each scan."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "index.toml", None)
        self.other = FileSystemBackend(folder, "index.toml", None)
        self.times = 0

    async def scan(self, progress: Progress):
        async for found in super().scan(progress):
            yield found
        self.times += 1
        content = encode_index("index.toml", self.times, [], backend_type="file_system", location=lambda _p, _f: None)
        current = await self.other.read_index()
        await self.other.write_index(content, expected=getattr(current, "version", None))


async def test_a_run_that_is_always_overtaken_gives_up_and_leaves_the_others_index(root):
    folder = root / "cache" / "demo"
    backend = Overtaken(folder)
    with pytest.raises(IndexConflictError, match="run update_index again"):
        await update(backend, backend_type="file_system", index_name="index.toml", progress=lambda _n, _what: None)
    assert backend.times == 3
    assert decode_index((folder / "storage" / "index.toml").read_bytes(), "index.toml").mtime == 3
    assert not list(folder.rglob("*.tmp"))
