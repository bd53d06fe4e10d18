"""Real resolvers through a cooldown of a week: they find what uv finds in the index itself as it was a week ago."""

import json
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name, parse_wheel_filename

from pywharf.core.model import rfc3339
from support.clients.computer import Computer, Python
from support.server.dated_upstream import DAY_S, DatedUpstream, generate
from support.server.policies import PolicyFile, cooldown
from support.server.repos import Repo, table
from support.server.serving import running
from support.server.upstream import Upstream, upstream

PROJECTS = 300
SOME = 40
"""Projects that pip also installs; they require no later ones."""
REPO = "team-a"


@pytest.fixture(scope="module")
def other() -> Iterator[Upstream]:
    with upstream() as index:
        yield index


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory, other: Upstream) -> DatedUpstream:
    return generate(other, tmp_path_factory.mktemp("files"), PROJECTS)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory, other: Upstream, generated: DatedUpstream) -> Iterator[Repo]:
    policies = PolicyFile(tmp_path_factory.mktemp("company") / "policies.json")
    policies.write(cooldown(7 * int(DAY_S)))
    flags = ["--access_log=json", f"--extra_index_url={other.url}"]
    folder = tmp_path_factory.mktemp("server")
    with running(folder, flags, config=policies.config(table(REPO))) as server:
        yield Repo(server, REPO)


@pytest.fixture(scope="module")
def expected(
    tmp_path_factory: pytest.TempPathFactory, other: Upstream, generated: DatedUpstream
) -> dict[str, tuple[str, list[str]]]:
    """The versions and files that uv locks from the index itself, as of a week ago."""
    computer = Computer(tmp_path_factory.mktemp("reference"))
    folder = _uv_project(computer, generated, other.url)
    computer.run("uv", "lock", f"--exclude-newer={rfc3339(time.time() - 7 * DAY_S)}", cwd=folder)
    locked = _uv_lock(folder)
    assert sorted(locked) == generated.projects
    return locked


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return Computer(tmp_path / "home")


def _project(folder: Path, generated: DatedUpstream, tools: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "consumer"\nversion = "1.0"\nrequires-python = ">=3.11,<4"\n'
        f"dependencies = {json.dumps(generated.projects)}\n\n{tools}"
    )
    return folder


def _uv_project(computer: Computer, generated: DatedUpstream, url: str) -> Path:
    source = f'[[tool.uv.index]]\nname = "wharf"\nurl = {json.dumps(url)}\ndefault = true\n'
    return _project(computer.home / "project", generated, source)


def _uv_lock(folder: Path) -> dict[str, tuple[str, list[str]]]:
    packages = tomllib.loads((folder / "uv.lock").read_text())["package"]
    return {
        one["name"]: (one["version"], sorted(file["url"].rpartition("/")[2] for file in one["wheels"]))
        for one in packages
        if one["name"] != "consumer"
    }


def _versions(expected: dict[str, tuple[str, list[str]]]) -> dict[str, str]:
    return {name: version for name, (version, _) in expected.items()}


def test_the_cooldown_matters(generated: DatedUpstream, expected: dict[str, tuple[str, list[str]]]):
    newest = {name: max(parse_wheel_filename(file)[1] for file in files) for name, files in generated.uploaded.items()}
    differing = [name for name, (version, _) in expected.items() if str(newest[name]) != version]
    assert len(differing) > PROJECTS / 3


def test_uv_lock_and_sync(repo: Repo, computer: Computer, generated: DatedUpstream, expected):
    folder = _uv_project(computer, generated, repo.reading.url)
    env = {"UV_INDEX_WHARF_USERNAME": repo.reading.user, "UV_INDEX_WHARF_PASSWORD": repo.reading.secret}
    computer.run("uv", "lock", cwd=folder, env=env)
    assert _uv_lock(folder) == expected
    computer.run("uv", "sync", "--locked", cwd=folder, env=env)
    assert Python(computer, folder / ".venv").installed() == _versions(expected)


def test_pip_download(repo: Repo, computer: Computer, generated: DatedUpstream, expected, tmp_path: Path):
    index = f"--index-url={repo.reading.with_user}"
    files = tmp_path / "files"
    computer.run("pip", "download", "--quiet", index, f"--dest={files}", *generated.projects)
    downloaded = {canonicalize_name(file.name.split("-")[0]): file.name for file in files.iterdir()}
    assert {name: file.split("-")[1] for name, file in downloaded.items()} == _versions(expected)
    assert all(downloaded[name] in known for name, (_, known) in expected.items())


def test_pip_install(repo: Repo, computer: Computer, other: Upstream, generated: DatedUpstream, tmp_path: Path):
    some = generated.projects[:SOME]
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("\n".join(some))
    as_of = f"--exclude-newer={rfc3339(time.time() - 7 * DAY_S)}"
    compiled = computer.run("uv", "pip", "compile", "--no-annotate", f"--default-index={other.url}", as_of, wanted)
    expected = dict(line.split("==") for line in compiled.stdout.splitlines() if "==" in line)
    target = tmp_path / "target"
    index = f"--index-url={repo.reading.with_user}"
    computer.run("pip", "install", "--quiet", "--no-compile", index, f"--target={target}", *some)
    found = (path.name.removesuffix(".dist-info").rpartition("-") for path in target.glob("*.dist-info"))
    assert {canonicalize_name(name): version for name, _, version in found} == expected
    assert sorted(expected) == some


def test_poetry_lock(repo: Repo, computer: Computer, generated: DatedUpstream, expected):
    source = f'[[tool.poetry.source]]\nname = "{REPO}"\nurl = {json.dumps(repo.reading.url)}\npriority = "primary"\n'
    folder = _project(computer.home / "project", generated, f"[tool.poetry]\npackage-mode = false\n{source}")
    env = {
        "POETRY_HTTP_BASIC_TEAM_A_USERNAME": repo.reading.user,
        "POETRY_HTTP_BASIC_TEAM_A_PASSWORD": repo.reading.secret,
    }
    computer.run("poetry", "lock", "--no-interaction", cwd=folder, env=env)
    packages = tomllib.loads((folder / "poetry.lock").read_text())["package"]
    assert {one["name"]: one["version"] for one in packages} == _versions(expected)
