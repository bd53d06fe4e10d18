"""Check that concurrent builds build a program once and completely, and that a missing go is reported with a remedy."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.cluster.build import BuildError, Programs, build, main

GO = """#!/bin/sh
if [ "$1" = env ]; then echo go1.26; exit; fi
echo "$@" >> "$LOG"
[ -n "$FAIL" ] && { echo "no such module" >&2; exit 1; }
while [ "$1" != -o ]; do shift; done
folder=$2; shift 2
sleep 0.2
for package; do package=${package%/v3}; echo "$package" > "$folder${package##*/}"; done
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch) -> Path:
    """Install a fake go. Returns the path of the log of its builds."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "go").write_text(GO)
    (programs / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return tmp_path / "log"


@pytest.fixture
def programs(tmp_path) -> Programs:
    for name in ("go.mod", "go.sum"):
        (tmp_path / name).write_text(name)
    return Programs(tmp_path, {"etcd": "etcd.test/server/v3", "b": "a.test/b"})


def test_built_once(log, programs):
    with ThreadPoolExecutor(4) as executor:
        folders = set(executor.map(build, [programs] * 4))
    (folder,) = folders
    assert len(log.read_text().splitlines()) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["b", "etcd"]
    assert (folder / "etcd").read_text() == "etcd.test/server\n"


def test_only_what_is_missing_is_built(log, programs, tmp_path):
    folder = build(programs)
    build(Programs(tmp_path, {**programs.packages, "c": "a.test/c"}))
    assert log.read_text().splitlines()[1].endswith("/ a.test/c")
    assert (folder / "c").exists()


def test_other_pins_are_built_anew(log, programs, tmp_path):
    first = build(programs)
    (tmp_path / "go.sum").write_text("other")
    assert build(programs) != first


def test_a_failed_build_leaves_nothing(log, programs, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(BuildError, match=r"(?s)go build failed.*no such module"):
        build(programs)
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == ["lock"]
    monkeypatch.delenv("FAIL")
    build(programs)


def test_without_go(log, programs, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match=r"no go on the PATH.*GOTOOLCHAIN"):
        build(programs)
    assert main(["cluster"]) == 1
    assert "no go on the PATH" in capfd.readouterr().err
    assert main(["unknown"]) == 2
