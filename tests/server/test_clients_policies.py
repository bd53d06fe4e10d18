"""What pip, uv and poetry do with a policy: they take the release before a withheld one, or fail in our words."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pywharf.core.model import rfc3339
from support.clients.computer import Computer
from support.clients.installing import install
from support.clients.publishing import upload
from support.distributions.wheels import sdist, wheel
from support.server.policies import PolicyFile, cooldown, deny
from support.server.repos import Repo, table
from support.server.serving import Server, running
from support.server.upstream import Answer, Upstream, upstream

NAMES = [f"repo-{number}" for number in range(20)]
STOLEN = deny("owned", "==2.0", "stolen on 27 November")
LYING = ("elsewhere", "fragment", "upper", "python")
FOREIGN = [deny(name, "==2.0", "stolen") | {"name": f"security/{name}"} for name in LYING]
WORDS = "Withheld by Deny of the policy security/deny: stolen on 27 November"


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Iterator[Upstream]:
    folder = tmp_path_factory.mktemp("other")
    with upstream() as index:
        for name in ("public", "dependency"):
            old, new = (wheel(folder, name, version) for version in ("1.0", "2.0"))
            index.offer(name, old, new, uploaded={new.name: rfc3339(time.time())})
        index.answers |= {name: _lying(index, tmp_path_factory.mktemp(name), name) for name in LYING}
        yield index


def _lying(index: Upstream, folder: Path, name: str) -> Answer:
    """Return a page with release 1.0, and with 2.0 where only clients see its version."""
    old = wheel(folder, name, "1.0")
    new = wheel(folder, name, "2.0") if name == "elsewhere" else sdist(folder, name, "2.0")
    major, minor = sys.version_info[:2]
    said, url = {
        "elsewhere": (f"{name}-1.5-py3-none-any.whl", new.name),
        "fragment": (f"{name}-0.5.tar.gz", f"{name}-0.5.tar.gz#egg={name}-2.0"),
        "upper": (f"{name}-2.0.TAR.gz",) * 2,
        "python": (f"{name}-2.0-py{major}.{minor}.tar.gz",) * 2,
    }[name]
    index.file_answers[url.partition("#")[0]] = Answer(new.read_bytes(), "application/octet-stream")
    index.file_answers[old.name] = Answer(old.read_bytes(), "application/octet-stream")
    files = [
        {"filename": filename, "url": f"../../files/{link}", "hashes": {}, "upload-time": "2024-01-02T03:04:05Z"}
        for filename, link in ((old.name, old.name), (said, url))
    ]
    return Answer(json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": files}).encode())


class Company:
    """A server with an empty repo a test. A cooldown of a week is for all, and a denial for all but two repos."""

    def __init__(self, folder: Path) -> None:
        self._file = PolicyFile(folder / "policies.json")
        self.config = self._file.config("\n".join(table(name) for name in NAMES))
        self._standing = (cooldown(7 * 86_400), STOLEN | {"repos": NAMES[2:]}, *FOREIGN)
        self._file.write(*self._standing)
        self._left = iter(NAMES[2:])

    def add(self, server: Server, *policies: dict[str, object]) -> None:
        """Have the server apply these policies besides the standing ones."""
        self._file.serve(server, self.config, *self._standing, *policies)

    def repo(self, server: Server) -> Repo:
        return Repo(server, next(self._left))


@pytest.fixture(scope="module")
def company(tmp_path_factory) -> Company:
    return Company(tmp_path_factory.mktemp("company"))


@pytest.fixture(scope="module")
def server(tmp_path_factory, other: Upstream, company: Company) -> Iterator[Server]:
    flags = ["--access_log=json", "--internal_port=0", f"--extra_index_url={other.url}"]
    with running(tmp_path_factory.mktemp("server"), flags, config=company.config) as server:
        yield server


@pytest.fixture
def repo(company: Company, server: Server) -> Repo:
    return company.repo(server)


def published(repo: Repo, computer: Computer, folder: Path) -> list[Path]:
    """Publish two releases of a project; returns their files."""
    folder.mkdir(exist_ok=True)
    files = [wheel(folder, "owned", version, extra_metadata="Requires-Dist: public\n") for version in ("1.0", "2.0")]
    upload(computer, repo.writing, *files)
    return files


@pytest.mark.parametrize("tool", ["pip", "uv", "poetry"])
def test_the_release_before_a_withheld_one_is_installed(repo: Repo, computer: Computer, tmp_path: Path, tool: str):
    published(repo, computer, tmp_path / "own")
    python, _ = install(tool, computer, repo.reading, "owned", "dependency")
    assert python.installed() == {"owned": "1.0", "public": "1.0", "dependency": "1.0"}


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_an_upstream_cannot_hide_a_version_from_a_policy(repo: Repo, computer: Computer, tool: str):
    python, _ = install(tool, computer, repo.reading, *LYING)
    assert python.installed() == dict.fromkeys(LYING, "1.0")


@pytest.mark.parametrize("requirement", ["owned==2.0", "dependency==2.0"])
@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_withheld_release_is_not_found_by_its_version(
    repo: Repo, computer: Computer, tmp_path: Path, tool: str, requirement: str
):
    """A resolver sees pages, so it speaks of a version that is not there."""
    published(repo, computer, tmp_path / "own")
    python, output = install(tool, computer, repo.reading, requirement, fails=True)
    assert python.installed() == {}
    assert "==2.0" in output.text


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_withheld_file_s_url_fails_in_our_words(repo: Repo, computer: Computer, tmp_path: Path, tool: str):
    files = published(repo, computer, tmp_path / "own")
    url = f"{repo.reading.with_user}owned/{files[1].name}"
    python, output = install(tool, computer, repo.reading, f"owned @ {url}", fails=True)
    assert python.installed() == {}
    assert WORDS in output.text


def test_an_old_lock_fails_in_our_words(company: Company, server: Server, computer: Computer, tmp_path: Path):
    repo = Repo(server, NAMES[0])
    published(repo, computer, tmp_path / "own")
    python, _ = install("uv-add", computer, repo.reading, "owned>=1.0")
    assert python.installed()["owned"] == "2.0"
    company.add(server, STOLEN | {"name": "security/later", "repos": [repo.name]})
    env = {"UV_INDEX_WHARF_USERNAME": repo.reading.user, "UV_INDEX_WHARF_PASSWORD": repo.reading.secret}
    folder = python.folder.parent
    output = computer.run("uv", "sync", "--locked", "--reinstall", "--no-cache", cwd=folder, env=env, fails=True)
    assert WORDS.replace("security/deny", "security/later") in output.text
    computer.run("uv", "lock", "--upgrade", cwd=folder, env=env)
    computer.run("uv", "sync", "--locked", cwd=folder, env=env)
    assert python.installed()["owned"] == "1.0"


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_yank_of_a_policy_counts_as_the_storage_s_own_would_and_ends_with_it(
    company: Company, server: Server, computer: Computer, tmp_path: Path, tool: str
):
    repo = Repo(server, NAMES[1])
    published(repo, computer, tmp_path / "own")
    broken = {"project": "owned", "versions": ">=2", "reason": "broken on 3.13"}
    company.add(server, {"name": "team/yank", "yank": [broken], "repos": [repo.name]})
    python, _ = install(tool, computer, repo.reading, "owned", into="newest")
    assert python.installed()["owned"] == "1.0"
    python, output = install(tool, computer, repo.reading, "owned==2.0", into="pinned")
    assert python.installed()["owned"] == "2.0"
    assert "broken on 3.13" in output.text
    company.add(server)
    python, _ = install(tool, computer, repo.reading, "owned", into="after")
    assert python.installed()["owned"] == "2.0"
