"""Tests of real installers and a real server, with a repo's own address and with the one that all repos share."""

import hashlib
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.clients.computer import Computer
from support.clients.installing import INSTALLERS, install
from support.clients.publishing import upload
from support.distributions.wheels import sdist, wheel
from support.server.repos import Repo

ADDRESSES = ["/repo/{name}/simple/", "/simple/"]


def valued(folder: Path, name: str, version: str, value: str, requires: tuple[str, ...] = ()) -> Path:
    """Build a wheel whose module defines VALUE."""
    extra = "".join(f"Requires-Dist: {r}\n" for r in requires)
    return wheel(folder, name, version, payload=f"VALUE = {value!r}\n".encode(), extra_metadata=extra)


def fill(repo: Repo, computer: Computer, *files: Path) -> None:
    upload(computer, repo.writing, *files)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("tool", INSTALLERS)
def test_installs_the_newest_with_what_it_needs(
    repo: Repo, computer: Computer, tmp_path: Path, tool: str, address: str
):
    fill(
        repo,
        computer,
        valued(tmp_path, "Acme.App", "1.0", "old", ("acme-lib",)),
        valued(tmp_path, "Acme.App", "1.1", "new", ("acme_lib>=2", "acme-lib<3")),
        valued(tmp_path, "acme-lib", "1.9", "1.9"),
        valued(tmp_path, "acme-lib", "2.5", "2.5"),
        valued(tmp_path, "acme-lib", "3.0", "3.0"),
    )

    python, _ = install(tool, computer, repo.index("read", address), "acme-app")

    assert python.installed() == {"acme-app": "1.1", "acme-lib": "2.5"}
    assert (python.value("acme_app"), python.value("acme_lib")) == ("new", "2.5")
    assert {s.status for s in repo.served()} <= {200, 301, 304, 401}
    assert repo.fetched() >= {"acme_app-1.1-py3-none-any.whl", "acme_lib-2.5-py3-none-any.whl"}


@pytest.mark.parametrize("address", ADDRESSES)
def test_pip_downloads_what_was_published(repo: Repo, computer: Computer, tmp_path: Path, address: str):
    built = tmp_path / "built"
    built.mkdir()
    files = [valued(built, "acme", "1.0", "x", ("acme-lib",)), valued(built, "acme-lib", "2.0", "y")]
    fill(repo, computer, *files, sdist(built, "acme", "1.0"))
    target = tmp_path / "target"

    computer.run("pip", "download", f"--index-url={repo.index('read', address).with_user}", f"--dest={target}", "acme")

    assert digests(target) == {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_required_hash_is_held(repo: Repo, computer: Computer, tmp_path: Path, tool: str):
    file = valued(tmp_path, "acme", "1.0", "x")
    fill(repo, computer, file)
    requirements = tmp_path / "requirements.txt"
    right, wrong = hashlib.sha256(file.read_bytes()).hexdigest(), "0" * 64

    for digest, fails in ((wrong, True), (right, False)):
        requirements.write_text(f"acme==1.0 --hash=sha256:{digest}\n")
        where = (tool, computer, repo.reading, "--require-hashes", "-r", str(requirements))
        python, _ = install(*where, into=f"fails-{fails}", fails=fails)
        assert python.installed() == ({} if fails else {"acme": "1.0"})


def test_uv_installs_what_was_there_at_a_time(repo: Repo, computer: Computer, tmp_path: Path):
    before = now()
    fill(repo, computer, valued(tmp_path, "acme", "1.0", "old"))
    between = now()
    fill(repo, computer, valued(tmp_path, "acme", "2.0", "new"))
    cases = {before: None, between: "1.0", now(): "2.0"}

    for number, (time_, version) in enumerate(cases.items()):
        where = ("uv", computer, repo.reading, f"--exclude-newer={time_}", "acme")
        python, output = install(*where, into=str(number), fails=version is None)
        assert python.installed() == ({} if version is None else {"acme": version}), output.text
        # uv warns about files without an upload time; ours always have one.
        assert "missing an upload date" not in output.text


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_new_version_is_seen_immediately_in_spite_of_the_client_s_cache(
    repo: Repo, computer: Computer, tmp_path: Path, tool: str
):
    for version in ("1.0", "2.0", "3.0"):
        fill(repo, computer, valued(tmp_path, "acme", version, version))
        python, _ = install(tool, computer, repo.reading, "acme", into=version)
        assert python.value("acme") == version


def test_pip_sees_all_versions(repo: Repo, computer: Computer, tmp_path: Path):
    fill(repo, computer, *(valued(tmp_path, "acme", v, v) for v in ("1.0", "1.5", "2.0rc1")))

    output = computer.run("pip", "index", "versions", "--pre", f"--index-url={repo.reading.with_user}", "acme")

    assert "Available versions: 2.0rc1, 1.5, 1.0" in output.text


@pytest.mark.parametrize("tool", INSTALLERS)
def test_what_is_not_there_is_said(repo: Repo, computer: Computer, tool: str):
    _, output = install(tool, computer, repo.reading, "acme-nowhere", fails=True)

    assert "acme-nowhere" in output.text
    pages = [s for s in repo.served() if s.path.endswith("/acme-nowhere/")]
    assert pages[-1].status == 404, output.text


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def now() -> str:
    """Return a time strictly between what was done before and what is done afterwards."""
    time.sleep(0.002)  # file times are in microseconds; this only keeps the two apart
    moment = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    time.sleep(0.002)
    return moment
