"""What `up` reports: each problem once, and addresses without passwords."""

from pathlib import Path

import pytest

from pywharf.config.repo_config import FileSystemSpec
from pywharf_operator.local.up.plan import plan
from pywharf_operator.local.up.report import Reporter, index_url
from pywharf_operator.render import Environment
from support.operator.manifest_text import parsed

MANIFESTS = """
apiVersion: v1
kind: Secret
metadata: {name: keys, labels: {pywharf.dev/credentials: "true"}}
stringData: {read: hunter2-read, write: hunter2-write}
---
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {name: demo}
spec:
  backend: {fileSystem: {}}
  credentials: {readSecretRef: {name: keys, key: read}, writeSecretRef: {name: keys, key: write}}
---
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {name: open}
spec:
  backend: {fileSystem: {}}
  credentials: {anonymousRead: true, readOnly: true}
"""


def planned(text=MANIFESTS):
    found = parsed(text)
    return plan(found, Environment(specs={"file_system": FileSystemSpec}), "default", {})


class Said:
    def __init__(self) -> None:
        self.informed: list[str] = []
        self.warned: list[str] = []
        self.reporter = Reporter(self.informed.append, self.warned.append)

    @property
    def text(self):
        return "\n".join(self.informed)


def test_problems_once_and_once_when_gone():
    said = Said()
    for current in (["a", "b"], ["a", "b"], ["b"], [], ["a"]):
        said.reporter.problems(current)
    assert said.warned == ["problem: a", "problem: b", "solved: a", "solved: b", "problem: a"]


def test_notes_once():
    said = Said()
    for current in (["a"], [], ["a", "b"]):
        said.reporter.notes(current)
    assert said.warned == ["note: a", "note: b"]


def test_addresses_hold_the_user_name_and_no_secret():
    said = Said()
    said.reporter.repos(planned())
    assert said.informed == []  # the server is not listening yet
    said.reporter.ready("http://127.0.0.1:8888", Path("root"), planned())
    assert "Serving on http://127.0.0.1:8888 (packages of fileSystem repos: root/cache)" in said.text
    assert "pip install --index-url http://demo@127.0.0.1:8888/repo/demo/simple/ PACKAGE" in said.text
    assert "password: key read of Secret keys" in said.text
    assert "twine upload --repository-url http://127.0.0.1:8888/repo/demo/simple/ --username demo" in said.text
    assert "pip install --index-url http://127.0.0.1:8888/repo/open/simple/ PACKAGE" in said.text
    assert "PIP_INDEX_URL" in said.text
    assert "hunter2" not in said.text


def test_repos_that_come_and_go():
    said = Said()
    said.reporter.ready("http://127.0.0.1:8888", Path("root"), planned(""))
    assert said.informed[-1] == "No repo is served yet; the folder is looked at every second."
    said.reporter.repos(planned())
    said.informed.clear()
    said.reporter.repos(planned())
    assert said.informed == []
    said.reporter.repos(planned(MANIFESTS.replace("{name: open}", "{name: closed}")))
    assert said.informed[0].startswith("closed (PackageRepo default/closed)")
    assert said.informed[1:] == ["open: no longer served"]


@pytest.mark.parametrize(
    ("base", "shown"),
    [
        ("http://0.0.0.0:1", "http://demo@127.0.0.1:1/repo/demo/simple/"),
        ("http://[::]:1", "http://demo@[::1]:1/repo/demo/simple/"),
        ("http://192.0.2.1:1", "http://demo@192.0.2.1:1/repo/demo/simple/"),
    ],
)
def test_an_address_that_clients_can_use(base, shown):
    (verdict,) = [verdict for verdict in planned().verdict.repos if verdict.name == "demo"]
    assert index_url(base, verdict) == shown
