"""Test of a user without a name: nothing looks the user up, and nothing writes outside its writable folders."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.any_user import GROUP, HOME, USER, as_any_user, group_folder
from support.distributions.wheels import wheel
from support.server.index_client import IndexClient
from support.server.serving import PYWHARF, clean_environment, running


@pytest.fixture
def folder() -> Iterator[Path]:
    with group_folder() as made:
        (made / "root").mkdir()
        (made / "root").chmod(0o2770)
        yield made


def test_a_server_publishes_and_an_update_reads(folder: Path, tmp_path: Path):
    with running(folder, program=as_any_user(PYWHARF), env=HOME) as server:
        client = IndexClient(server.url, "demo", "demo-write")
        file = wheel(tmp_path, "one")
        assert client.upload(file).status == 200
        assert set(client.files("one")) == {file.name}
        made = [path.stat() for path in server.root.rglob("*")]
        assert {(found.st_uid, found.st_gid) for found in made} == {(USER, GROUP)}
    report = folder / "report"
    command = ("update_index", "file_system", "demo", f"--root={folder / 'root'}", f"--report={report}")
    done = subprocess.run(
        as_any_user(PYWHARF, *command, "--index_filename=index.json"),
        env=clean_environment(HOME),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(report.read_text())["files"] == 1
