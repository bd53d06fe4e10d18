"""The `helm test` script, run against a real server."""

import subprocess
import sys

import pytest

from support.operator.chart import CHART
from support.server.up import upping

REPO = """
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {name: tried}
spec:
  backend: {fileSystem: {}}
  credentials: {readSecretRef: {name: tried, key: read}, writeSecretRef: {name: tried, key: write}}
  upstream: {mode: None}
---
apiVersion: v1
kind: Secret
metadata: {name: tried, labels: {pywharf.dev/credentials: "true"}}
stringData: {read: one, write: other}
"""


@pytest.fixture
def index(tmp_path):
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "repo.yaml").write_text(REPO)
    with upping(tmp_path / "work", folder) as up:
        yield f"{up.url}/repo/tried/simple/"


def tried(index, **environment):
    given = {"INDEX": index, "REPO": "tried", "READ": "one", "WRITE": "other", "LONGEST_S": "30"} | environment
    command = [sys.executable, "-I", "-c", (CHART / "files" / "test.py").read_text()]
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=90)


def test_it_publishes_and_installs(index):
    done = tried(index)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split(" ", 1)[0] for line in done.stdout.splitlines()] == ["ok:"] * 5


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"READ": "no", "LONGEST_S": "0.1"}, "kubectl describe packageserver pywharf"),
        ({"WRITE": "one"}, "is published: 403 instead of 200"),
        ({"INDEX": "http://127.0.0.1:9/", "LONGEST_S": "0.1"}, "Connection refused"),
    ],
)
def test_it_says_what_is_wrong(index, wrong, said):
    done = tried(index, **wrong)
    assert done.returncode == 1
    assert said in done.stderr
