"""Tests of dependency confusion with real tools: another index offers higher versions of names that a repo owns."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.clients.computer import Computer
from support.clients.installing import INSTALLERS, install
from support.clients.publishing import upload
from support.distributions.wheels import wheel
from support.server.repos import Repo, many_repos, table
from support.server.serving import running
from support.server.upstream import Upstream, upstream

POLICY = 'upstream = { reserved = ["acme-*"], allow_shadowing = ["shadowed"] }'


def made(folder: Path, name: str, version: str, value: str, *requires: str) -> Path:
    """Build a wheel whose module defines VALUE, the index that it comes from."""
    folder.mkdir(parents=True, exist_ok=True)
    extra = "".join(f"Requires-Dist: {r}\n" for r in requires)
    return wheel(folder, name, version, payload=f"VALUE = {value!r}\n".encode(), extra_metadata=extra)


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Iterator[Upstream]:
    """Yield an index that offers versions of owned and reserved names that no repo has, and projects of its own."""
    folder = tmp_path_factory.mktemp("other")
    offered = {
        "owned": [made(folder, "owned", v, "other") for v in ("1.0", "9.0")],
        "acme-secret": [made(folder, "acme-secret", "9.0", "other")],
        "shadowed": [made(folder, "shadowed", "9.0", "other")],
        "public": [made(folder, "public", "1.0", "other"), made(folder, "public", "2.0", "other", "public-lib")],
        "public-lib": [made(folder, "public-lib", "1.0", "other")],
        "later": [made(folder, "later", "5.0", "other")],
    }
    with upstream() as index:
        for project, files in offered.items():
            index.offer(project, *files)
        yield index
        credentials = [r for r in index.requests if {k.lower() for k in r.headers} & {"authorization", "cookie"}]
        assert not credentials, "the other index was sent credentials"


@pytest.fixture(scope="module")
def repos(tmp_path_factory, other: Upstream) -> Iterator[Iterator[Repo]]:
    flags = [f"--extra_index_url={other.url}"]
    with many_repos(tmp_path_factory.mktemp("server"), 40, flags, extra=POLICY) as made:
        yield made


@pytest.mark.parametrize("tool", INSTALLERS)
def test_an_owned_name_is_never_taken_from_elsewhere_and_an_unknown_one_is(
    repo: Repo, computer: Computer, other: Upstream, tmp_path: Path, tool: str
):
    upload(computer, repo.writing, made(tmp_path / "own", "owned", "1.0", "own", "public"))

    python, _ = install(tool, computer, repo.reading, "owned")

    assert python.installed() == {"owned": "1.0", "public": "2.0", "public-lib": "1.0"}
    assert [python.value(m) for m in ("owned", "public", "public_lib")] == ["own", "other", "other"]
    assert other.asked("owned") == 0
    assert not [r for r in other.requests if "/owned-" in r.path]


REFUSED = [
    # requirement, name that the other index must not be asked for
    ("owned==9.0", "owned"),
    ("owned>1.0", "owned"),
    ("Owned>1.0", "owned"),
    ("acme-secret", "acme-secret"),
    ("ACME_Secret==9.0", "acme-secret"),
]


@pytest.mark.parametrize(("requirement", "name"), REFUSED, ids=[case[0] for case in REFUSED])
@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_what_only_the_other_index_has_of_an_own_name_is_not_there(
    repo: Repo, computer: Computer, other: Upstream, tmp_path: Path, tool: str, requirement: str, name: str
):
    upload(computer, repo.writing, made(tmp_path / "own", "owned", "1.0", "own"))

    python, _ = install(tool, computer, repo.reading, requirement, fails=True)

    assert python.installed() == {}
    assert other.asked(name) == 0


@pytest.mark.parametrize("tool", INSTALLERS)
def test_a_name_is_the_repo_s_from_its_first_upload_on(repo: Repo, computer: Computer, tmp_path: Path, tool: str):
    """This also holds for a client that has the other index's page and file in its cache."""
    python, _ = install(tool, computer, repo.reading, "later", into="before")
    assert (python.installed()["later"], python.value("later")) == ("5.0", "other")

    upload(computer, repo.writing, made(tmp_path / "own", "later", "0.1", "own"))

    python, _ = install(tool, computer, repo.reading, "later", into="after")
    assert (python.installed()["later"], python.value("later")) == ("0.1", "own")


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_name_that_may_be_shadowed_is_taken_from_both(repo: Repo, computer: Computer, tmp_path: Path, tool: str):
    own = made(tmp_path / "own", "shadowed", "1.0", "own")
    upload(computer, repo.writing, own)

    python, _ = install(tool, computer, repo.reading, "shadowed", into="newest")
    assert (python.installed()["shadowed"], python.value("shadowed")) == ("9.0", "other")
    python, _ = install(tool, computer, repo.reading, "shadowed==1.0", into="own")
    assert (python.installed()["shadowed"], python.value("shadowed")) == ("1.0", "own")


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_name_that_only_another_replica_knows_is_owned(
    computer: Computer, other: Upstream, tmp_path: Path, tool: str
):
    flags = ["--access_log=json", f"--extra_index_url={other.url}"]
    one = tmp_path / "one"
    with (
        running(one, flags, config=table("team")) as first,
        running(tmp_path / "two", flags, config=table("team"), root=first.root) as second,
    ):
        asked = other.asked("owned")
        upload(computer, Repo(first, "team").writing, made(tmp_path / "own", "owned", "0.5", "own"))
        python, _ = install(tool, computer, Repo(second, "team").reading, "owned")

    assert (python.installed(), python.value("owned")) == ({"owned": "0.5"}, "own")
    assert other.asked("owned") == asked


@pytest.mark.parametrize("tool", INSTALLERS)
def test_own_projects_are_installed_while_the_other_index_is_down(computer: Computer, tmp_path: Path, tool: str):
    flags = ["--access_log=json", "--extra_index_url=http://127.0.0.1:9/simple/"]
    with running(tmp_path / "server", flags, config=table("team")) as server:
        repo = Repo(server, "team")
        upload(computer, repo.writing, made(tmp_path / "own", "owned", "1.0", "own"))
        python, _ = install(tool, computer, repo.reading, "owned", into="own")
        assert python.installed() == {"owned": "1.0"}
        if tool in {"pip", "uv"}:  # the others retry for a long time
            env = {"PIP_RETRIES": "0", "UV_HTTP_RETRIES": "0"}
            _, output = install(tool, computer, repo.reading, "public", into="other", fails=True, env=env)
            assert [s.status for s in repo.served() if s.path.endswith("/public/")][-1] == 502, output.text
