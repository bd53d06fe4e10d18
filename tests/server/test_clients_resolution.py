"""Tests of how resolvers use the pages: incompatible versions, yanked files, metadata without the file, ranges."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pywharf.core.toml_text import dumps, loads
from support.clients.computer import Computer, Python
from support.clients.installing import INSTALLERS, install
from support.clients.publishing import upload
from support.distributions.wheels import sdist, wheel
from support.parts import client
from support.server.calling import call
from support.server.recorder import recording
from support.server.repos import Repo, table
from support.server.serving import PYWHARF, clean_environment, running
from support.waiting import wait_for

JSON = "application/vnd.pypi.simple.v1+json"


def requiring(folder: Path, name: str, version: str, *requires: str, requires_python: str = ">=3.8") -> Path:
    extra = "".join(f"Requires-Dist: {r}\n" for r in requires)
    payload = f"VALUE = {version!r}\n".encode()
    return wheel(folder, name, version, payload=payload, requires_python=requires_python, extra_metadata=extra)


def update_index(repo: Repo) -> dict[str, object]:
    command = [PYWHARF, "update_index", "file_system", repo.name, f"--root={repo.server.root}"]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    summary: dict[str, object] = json.loads(done.stdout)
    return summary


def page(repo: Repo, project: str) -> dict[str, dict[str, object]]:
    """Return the project's files by name, as the server lists them."""
    auth = f"{repo.name}:{repo.reading.secret}"
    reply = call(f"{repo.reading.url}{project}/", auth=auth, headers={"Accept": JSON})
    return {f["filename"]: f for f in reply.json()["files"]}


def projects(repo: Repo) -> list[str]:
    auth = f"{repo.name}:{repo.reading.secret}"
    return [p["name"] for p in call(repo.reading.url, auth=auth, headers={"Accept": JSON}).json()["projects"]]


@pytest.mark.parametrize("tool", INSTALLERS)
def test_a_version_for_another_python_is_skipped(repo: Repo, computer: Computer, tmp_path: Path, tool: str):
    newest = requiring(tmp_path, "acme", "3.0", requires_python=">=9")
    upload(
        computer,
        repo.writing,
        requiring(tmp_path, "acme", "1.0"),
        requiring(tmp_path, "acme", "2.0", requires_python=">=3.9,<4"),
        newest,
    )

    # Without a constraint, poetry derives one from the newest version, and checks Requires-Python only afterwards.
    python, _ = install(tool, computer, repo.reading, "acme>=1")

    assert python.installed() == {"acme": "2.0"}
    assert newest.name not in repo.fetched()


def yank(repo: Repo, file: Path, reason: str) -> None:
    """Yank a file as an administrator does: edit its sidecar, then run update_index."""
    sidecar = repo.storage / "acme" / f"{file.name}.meta"
    sidecar.write_text(dumps({**loads(sidecar.read_text(), "meta"), "yanked": reason or "true"}))
    assert update_index(repo)["problems"] == []
    wait_for(lambda: page(repo, "acme")[file.name]["yanked"] is not False, f"{file.name} is yanked")


@pytest.mark.parametrize("tool", INSTALLERS)
def test_a_yanked_file_is_skipped_until_it_is_asked_for(repo: Repo, computer: Computer, tmp_path: Path, tool: str):
    old, new = requiring(tmp_path, "acme", "1.0"), requiring(tmp_path, "acme", "2.0")
    upload(computer, repo.writing, old, new)
    yank(repo, new, 'it deletes "everything" <&>')

    python, _ = install(tool, computer, repo.reading, "acme")
    assert python.installed() == {"acme": "1.0"}
    assert new.name not in repo.fetched()

    python, output = install(tool, computer, repo.reading, "acme==2.0", into="pinned")
    assert python.installed() == {"acme": "2.0"}
    if tool in {"pip", "uv"}:  # these tools warn, and show the reason
        assert 'it deletes "everything" <&>' in output.text


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_file_yanked_without_a_reason_and_taken_back(repo: Repo, computer: Computer, tmp_path: Path, tool: str):
    old, new = requiring(tmp_path, "acme", "1.0"), requiring(tmp_path, "acme", "2.0")
    upload(computer, repo.writing, old, new)
    yank(repo, new, "")
    python, _ = install(tool, computer, repo.reading, "acme", into="yanked")
    assert python.installed() == {"acme": "1.0"}

    sidecar = repo.storage / "acme" / f"{new.name}.meta"
    table = loads(sidecar.read_text(), "meta")
    del table["yanked"]
    sidecar.write_text(dumps(table))
    update_index(repo)
    wait_for(lambda: page(repo, "acme")[new.name]["yanked"] is False, f"{new.name} is no longer yanked")

    python, _ = install(tool, computer, repo.reading, "acme", into="back")
    assert python.installed() == {"acme": "2.0"}


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_files_laid_into_the_storage_by_hand_are_installed(repo: Repo, computer: Computer, tmp_path: Path, tool: str):
    """The sdist's requirements are computed by its build: PKG-INFO lists them as dynamic only (core metadata 2.2)."""
    pyproject = """
[build-system]
requires = ["flit_core"]
build-backend = "flit_core.buildapi"
[project]
name = "acme"
version = "1.0"
description = "Made for a test"
dependencies = ["acme-lib"]
"""
    members = {
        "acme-1.0/PKG-INFO": b"Metadata-Version: 2.2\nName: acme\nVersion: 1.0\nDynamic: Requires-Dist\n",
        "acme-1.0/pyproject.toml": pyproject.encode(),
        "acme-1.0/acme.py": b"VALUE = 1\n",
    }
    laid = {"acme": sdist(tmp_path, "acme", members=members), "acme-wheel": requiring(tmp_path, "acme-wheel", "1.0")}
    upload(computer, repo.writing, requiring(tmp_path, "acme-lib", "1.0"))
    for project, file in laid.items():
        (repo.storage / project).mkdir()
        shutil.copy(file, repo.storage / project)
    update_index(repo)
    wait_for(lambda: "acme-wheel" in projects(repo), "what was laid there by hand is listed")
    target = tmp_path / "target"

    # The clients' interpreter is used, because the sdist needs a build backend.
    install_to = ("install", "--no-build-isolation", f"--target={target}")
    if tool == "pip":
        computer.run("pip", *install_to, f"--index-url={repo.reading.with_user}", "acme", "acme-wheel")
    else:
        named = (f"--python={client('python')}", f"--default-index={repo.reading.with_user}")
        computer.run("uv", "pip", *install_to, *named, "acme", "acme-wheel")

    assert {p.name for p in target.glob("acme*")} >= {"acme.py", "acme_lib.py", "acme_wheel.py"}
    assert "core-metadata" in page(repo, "acme-wheel")["acme_wheel-1.0-py3-none-any.whl"]
    assert "core-metadata" not in page(repo, "acme")["acme-1.0.tar.gz"]


def test_what_the_original_left_is_installed_before_update_index_has_run(computer: Computer, tmp_path: Path):
    """The original's index and sidecars have no size, no time and no metadata file."""
    storage = tmp_path / "root" / "cache" / "team" / "storage"
    (storage / "acme").mkdir(parents=True)
    file = wheel(storage / "acme", "acme")
    meta = {"distrib": "acme", "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "name": "acme"}
    file.with_name(f"{file.name}.meta").write_text(dumps(meta))
    entry = {"type": "file_system", "distrib": "acme", "package": file.stem, "ext": "whl", "sha256": meta["sha256"]}
    index = {"mtime": 1_600_000_000, "pkgs": [{**entry, "package_path": str(file), "meta": meta}]}
    (storage / "index.toml").write_text(dumps(index))

    with running(tmp_path / "server", config=table("team"), root=tmp_path / "root") as server:
        for tool in INSTALLERS:
            python, _ = install(tool, computer, Repo(server, "team").reading, "acme", into=tool)
            assert python.installed() == {"acme": "1.0"}, tool


@pytest.mark.parametrize("tool", INSTALLERS)
def test_resolvers_read_metadata_instead_of_files(repo: Repo, computer: Computer, tmp_path: Path, tool: str):
    """The newest versions require what the user has excluded, so the resolver must try several."""
    newer = [requiring(tmp_path, "left", f"{major}.0", "shared>=2") for major in range(2, 6)]
    chosen = [requiring(tmp_path, "left", "1.0", "shared>=1"), requiring(tmp_path, "shared", "1.5")]
    upload(computer, repo.writing, *newer, *chosen, requiring(tmp_path, "shared", "2.0"))

    python, _ = install(tool, computer, repo.reading, "left>=1", "shared<2")

    assert python.installed() == {"left": "1.0", "shared": "1.5"}
    fetched = repo.fetched()
    assert {name for name in fetched if name.endswith(".whl")} == {f.name for f in chosen}
    considered = {name.removesuffix(".metadata") for name in fetched if name.endswith(".metadata")}
    assert considered & {f.name for f in newer}, fetched
    assert considered >= {chosen[0].name}, fetched


LAZY = [("pip", ("--use-feature=fast-deps",)), ("uv", ())]


@pytest.mark.parametrize(("tool", "options"), LAZY, ids=[case[0] for case in LAZY])
def test_without_metadata_resolvers_read_ranges_of_the_file(
    repo: Repo, computer: Computer, tmp_path: Path, tool: str, options: tuple[str, ...]
):
    """An index written by the original lists no metadata files. The wheel is large enough for ranges to pay off."""
    newer = wheel(tmp_path, "left", "2.0", payload=b"#" * 3_000_000, extra_metadata="Requires-Dist: shared>=2\n")
    chosen = [requiring(tmp_path, "left", "1.0", "shared>=1"), requiring(tmp_path, "shared", "1.5")]
    upload(computer, repo.writing, newer, *chosen, requiring(tmp_path, "shared", "2.0"))
    update_index(repo)
    index = repo.storage / "index.toml"
    index.write_text(re.sub(r"(?m)^metadata_sha256 = .*\n", "", index.read_text()))
    wait_for(lambda: "core-metadata" not in page(repo, "left")[newer.name], "no metadata file is offered")

    with recording(repo.server.url) as recorder:
        recorded = repo.reading.at(recorder.url)
        python, _ = install(tool, computer, recorded, *options, "left>=1", "shared<2")

    assert python.installed() == {"left": "1.0", "shared": "1.5"}
    asked = [r for r in recorder.requests if r.path.endswith(newer.name)]
    ranged = [r for r in asked if r.method == "GET"]
    assert ranged, recorder.requests
    assert {r.status for r in ranged} == {206}, asked
    assert sum(r.length for r in ranged) < 1_000_000, "the whole file was read in the end"
    assert not [r for r in recorder.requests if r.path.endswith(".metadata")]


def test_pip_resumes_a_download(repo: Repo, computer: Computer, tmp_path: Path):
    file = wheel(tmp_path, "acme", "1.0", payload=b"#" * 6_000_000)
    upload(computer, repo.writing, file)
    python: Python = computer.python()

    with recording(repo.server.url) as recorder:
        recorder.cut_after(file.name, 2_000_000)
        python.pip_install(repo.reading.at(recorder.url).with_user).run(computer, "--resume-retries=3", "acme")

    assert python.installed() == {"acme": "1.0"}
    asked = [(r.requested_range, r.status) for r in recorder.requests if r.path.endswith(file.name)]
    assert asked[0] == (None, 200)
    assert asked[1][0] is not None, asked
    assert asked[1][1] == 206, asked
