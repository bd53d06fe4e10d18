"""Tests of `pywharf up examples/quickstart` as its reader uses it: real tools; manifests are added, broken, changed."""

import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support.clients.computer import Computer, Index
from support.clients.installing import install
from support.clients.publishing import publish, upload
from support.distributions.projects import source_tree
from support.distributions.wheels import wheel
from support.parts import CHECKOUT
from support.server.calling import call
from support.server.up import Up, upping
from support.waiting import stretched, wait_for

QUICKSTART = CHECKOUT / "examples" / "quickstart"
SERVED_WITHIN_S = 5.0
"""Seconds within which a manifest is served, on a machine that is not overloaded."""

SECOND = """
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {name: second}
spec:
  repoName: team-two
  backend: {fileSystem: {}}
  credentials:
    readSecretRef: {name: second, key: read}
    writeSecretRef: {name: second, key: write}
---
apiVersion: v1
kind: Secret
metadata: {name: second, labels: {pywharf.dev/credentials: "true"}}
stringData: {read: second-read, write: second-write}
"""
THIRD = SECOND.replace("second", "third").replace("team-two", "team-three")

BROKEN = [
    # what is wrong, the manifest, what is reported
    ("yaml", THIRD.replace("metadata: {name: third}", "metadata: {name: third", 1), "third.yaml"),
    ("unknown-field", THIRD.replace("repoName", "repoNmae"), "repoNmae"),
    ("no-such-backend", THIRD.replace("fileSystem: {}", "tape: {}"), "tape"),
    ("secret-not-there", THIRD.split("---")[0], "third"),
    (
        "secret-without-label",
        THIRD.replace(', labels: {pywharf.dev/credentials: "true"}', ""),
        "pywharf.dev/credentials",
    ),
    ("name-taken", THIRD.replace("team-three", "demo"), "demo"),
]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    folder = tmp_path / "quickstart"
    shutil.copytree(QUICKSTART, folder)
    with upping(tmp_path, folder) as running:
        yield running


def secrets_of(folder: Path) -> dict[str, str]:
    """Return the secrets as a reader of the example finds them."""
    secret = yaml.safe_load((folder / "secret.yaml").read_text())
    assert secret["kind"] == "Secret"
    return {str(key): str(value) for key, value in secret["stringData"].items()}


def demo(up: Up, permission: str) -> Index:
    return up.index("demo", secrets_of(up.folder)[permission])


def status(index: Index) -> int:
    return call(index.url, auth=f"{index.user}:{index.secret}").status


def wait_served(index: Index) -> float:
    """Wait until the index answers 200. Returns the seconds that it took."""
    started = time.monotonic()
    wait_for(lambda: status(index) == 200, f"{index.url} is served", longest_s=SERVED_WITHIN_S)
    return time.monotonic() - started


def test_the_demo_s_credentials_are_good_for_twine_pip_and_uv(up: Up, computer: Computer, tmp_path: Path):
    trees = {tool: source_tree(tmp_path / tool, f"by-{tool}", "hatchling") for tool in ("twine", "uv")}
    for tool, tree in trees.items():
        tree.build(computer)
        publish(tool, computer, tree, demo(up, "write"))

    for tool in ("pip", "uv"):
        python, _ = install(tool, computer, demo(up, "read"), "by-twine", "by-uv", into=tool)
        assert python.installed() == {"by-twine": "1.0", "by-uv": "1.0"}
    for tool, tree in trees.items():
        output = publish(tool, computer, tree, demo(up, "read"), fails=True)
        assert "403" in output.text


def test_the_commands_that_it_prints_work(up: Up, computer: Computer, tmp_path: Path):
    """The passwords are stored where the output says that they may be."""

    def printed(*first: str) -> list[str]:
        lines = [shlex.split(line) for line in up.out().splitlines() if line.startswith("  ")]
        return next((words for words in lines if tuple(words[: len(first)]) == first), [])

    twine = wait_for(lambda: printed("twine"), "the command for twine")
    pip = wait_for(lambda: printed("pip", "install"), "the command for pip")
    assert (twine[-1], pip[-1]) == ("dist/*", "PACKAGE")
    secrets = secrets_of(up.folder)
    computer.home.mkdir()
    netrc = computer.home / ".netrc"
    netrc.write_text(f"machine 127.0.0.1 login demo password {secrets['read']}\n")
    netrc.chmod(0o600)
    python = computer.python()

    computer.run("twine", *twine[1:-1], wheel(tmp_path, "acme"), env={"TWINE_PASSWORD": secrets["write"]})
    computer.run("pip", f"--python={python.path}", *pip[1:-1], "acme")

    assert python.installed() == {"acme": "1.0"}
    assert not [s for s in secrets.values() if s in up.out() + up.err()], "it shows the passwords"


def test_a_second_manifest_is_served_without_a_restart(up: Up, computer: Computer, tmp_path: Path):
    upload(computer, demo(up, "write"), wheel(tmp_path, "in-demo"))
    second = up.index("team-two", "second-write")
    assert status(second) == 401

    (up.folder / "second.yaml").write_text(SECOND)
    assert wait_served(second) < stretched(SERVED_WITHIN_S)

    upload(computer, second, wheel(tmp_path, "in-second"))
    for index, own, other in ((second, "in-second", "in-demo"), (demo(up, "read"), "in-demo", "in-second")):
        python, _ = install("pip", computer, index, own, into=own)
        assert python.installed() == {own: "1.0"}
        assert status(Index(f"{index.url}{other}/", index.user, index.secret)) != 200
    wait_for(lambda: "/repo/team-two/simple/" in up.out(), "it prints the second repo's address")

    (up.folder / "second.yaml").unlink()
    wait_for(lambda: status(second) == 401, "a repo without a manifest is closed", longest_s=SERVED_WITHIN_S)
    assert status(demo(up, "read")) == 200
    (up.folder / "second.yaml").write_text(SECOND)
    wait_served(second)
    python, _ = install("pip", computer, second, "in-second", into="again")
    assert python.installed() == {"in-second": "1.0"}, "its packages are still there"


@pytest.mark.parametrize(("manifest", "says"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_broken_manifest_is_reported_and_the_others_go_on(
    up: Up, computer: Computer, tmp_path: Path, manifest: str, says: str
):
    upload(computer, demo(up, "write"), wheel(tmp_path, "acme"))
    (up.folder / "second.yaml").write_text(SECOND)
    second, third = up.index("team-two", "second-write"), up.index("team-three", "third-write")
    wait_served(second)
    before = up.err()

    (up.folder / "third.yaml").write_text(manifest)
    wait_for(
        lambda: "problem:" in up.err()[len(before) :],
        "the broken manifest is reported",
        longest_s=SERVED_WITHIN_S,
    )

    reported = [line for line in up.err()[len(before) :].splitlines() if "problem:" in line]
    assert [line for line in reported if says in line], reported
    assert "third-write" not in up.err()
    assert "Traceback" not in up.err()
    assert status(third) == 401
    python, _ = install("pip", computer, demo(up, "read"), "acme")
    assert python.installed() == {"acme": "1.0"}
    upload(computer, second, wheel(tmp_path, "more"))

    (up.folder / "third.yaml").write_text(THIRD)
    assert wait_served(third) < stretched(SERVED_WITHIN_S)
    wait_for(lambda: "solved:" in up.err()[len(before) :], "it says that the problem is gone")
    upload(computer, third, wheel(tmp_path, "acme", "2.0"))
    assert [status(index) for index in (demo(up, "read"), second, third)] == [200, 200, 200]


def test_a_rotated_secret_takes_effect(up: Up, computer: Computer, tmp_path: Path):
    old = {permission: demo(up, permission) for permission in ("read", "write")}
    upload(computer, old["write"], wheel(tmp_path, "acme"))
    path = up.folder / "secret.yaml"
    rotated = path.read_text()
    for permission, index in old.items():
        rotated = rotated.replace(f"{permission}: {index.secret}", f"{permission}: rotated-{permission}")
    path.write_text(rotated)
    assert secrets_of(up.folder) == {"read": "rotated-read", "write": "rotated-write"}

    wait_served(demo(up, "read"))

    assert [status(index) for index in old.values()] == [401, 401]
    _, output = install("pip", computer, old["read"], "acme", into="old", fails=True)
    assert "acme" in output.text
    upload(computer, demo(up, "write"), wheel(tmp_path, "acme", "2.0"))
    python, _ = install("uv", computer, demo(up, "read"), "acme", into="new")
    assert python.installed() == {"acme": "2.0"}


def test_sigterm_ends_it_cleanly_and_leaves_no_secret_behind(up: Up):
    secrets = secrets_of(up.folder)
    kept = [p for p in up.temporary.rglob("*") if p.is_file()]
    assert any(secret in p.read_text(errors="replace") for p in kept for secret in secrets.values()), (
        "it keeps its configuration elsewhere, so that this test looks in the wrong place"
    )
    assert [oct(p.stat().st_mode) for p in kept if p.stat().st_mode & 0o077] == []

    assert up.stop() == 0

    assert list(up.temporary.iterdir()) == []
    assert "Traceback" not in up.err()
    left = [p for p in up.root.rglob("*") if p.is_file() and any(s in p.read_text() for s in secrets.values())]
    assert left == [], "secrets lie in the packages' folder"
