"""What pip, uv, twine and poetry do with a policy: they take the release before a withheld one, or fail in our words."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pywharf.core.model import rfc3339
from support.clients.computer import Computer
from support.clients.installing import install
from support.clients.publishing import upload
from support.distributions.wheels import wheel
from support.server.policies import PolicyFile, cooldown, deny
from support.server.repos import Repo, table
from support.server.serving import running
from support.server.upstream import Upstream, upstream

NAMES = [f"repo-{number}" for number in range(20)]
STOLEN = deny("owned", "==2.0", "stolen on 27 November")
WORDS = "Withheld by Deny of the policy security/deny: stolen on 27 November"


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Iterator[Upstream]:
    folder = tmp_path_factory.mktemp("other")
    with upstream() as index:
        for name in ("public", "dependency"):
            old, new = (wheel(folder, name, version) for version in ("1.0", "2.0"))
            index.offer(name, old, new, uploaded={new.name: rfc3339(time.time())})
        yield index


class Company:
    """A server with one repo a test, and with policies for all of them: only what they name differs."""

    def __init__(self, repos: Iterator[Repo]) -> None:
        self.repos = repos


@pytest.fixture(scope="module")
def repos(tmp_path_factory, other: Upstream) -> Iterator[Iterator[Repo]]:
    """Serve a cooldown of a week for every repo, and the owned project's second release withheld from all but one."""
    folder = tmp_path_factory.mktemp("server")
    policies = PolicyFile(folder / "policies.json")
    policies.write(cooldown(7 * 86_400), STOLEN | {"repos": NAMES[1:]})
    config = policies.config("\n".join(table(name) for name in NAMES))
    flags = ["--access_log=json", f"--extra_index_url={other.url}"]
    with running(folder, flags, config=config) as server:
        yield iter([Repo(server, name) for name in NAMES[1:]])


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
