"""Tests of refused uploads: what the real publishers show to the user, and that the server keeps nothing."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from support.clients.computer import Computer, Index
from support.clients.publishing import PUBLISHERS, publish
from support.distributions.projects import SourceTree, source_tree
from support.distributions.wheels import wheel
from support.server.calling import call
from support.server.repos import Repo, many_repos

BUILDER_OF = {"twine": "hatchling", "uv": "hatchling", "poetry": "poetry", "flit": "flit", "pdm": "hatchling"}
LIMIT = 2_000_000
SILENT = {"pdm"}
"""Publishers that show only the status, never the server's reason."""


@pytest.fixture(scope="module")
def repos(tmp_path_factory) -> Iterator[Iterator[Repo]]:
    with many_repos(tmp_path_factory.mktemp("server"), 60, extra=f"max_file_bytes = {LIMIT}") as made:
        yield made


@pytest.fixture(scope="module")
def tree_of(tmp_path_factory) -> Callable[[str], SourceTree]:
    """Return a function that returns a publisher's built project, and builds it only once."""
    built: dict[str, SourceTree] = {}

    def get(publisher: str) -> SourceTree:
        if publisher not in built:  # a new folder per attempt: if a client is missing, each test is skipped
            folder = tmp_path_factory.mktemp(publisher)
            tree = source_tree(folder / "tree", "acme", BUILDER_OF[publisher])
            tree.build(Computer(folder / "home"))
            built[publisher] = tree
        return built[publisher]

    return get


@dataclass(frozen=True)
class Refused:
    """A refused upload. `index` is what the publisher is given; `says` is the reason that it shows with the status."""

    name: str
    index: Callable[[Repo], Index]
    status: int
    says: str


REFUSED = [
    Refused(
        "wrong-secret",
        lambda repo: replace(repo.writing, secret="no-such-secret"),
        401,
        "The repo's name or the secret is wrong.",
    ),
    Refused(
        "read-secret",
        lambda repo: repo.reading,
        403,
        "This secret allows reading only; publishing needs the repo's write secret.",
    ),
    Refused(
        "read-secret-flat-address",
        lambda repo: repo.index("read", "/simple/"),
        403,
        "This secret allows reading only; publishing needs the repo's write secret.",
    ),
    Refused(
        "no-such-repo",
        lambda repo: Index(f"{repo.server.url}/repo/nowhere/simple/", "nowhere", "no-such-secret"),
        401,
        "The repo's name or the secret is wrong.",
    ),
    Refused(
        "another-repo-s-address",
        lambda repo: replace(
            repo.writing, url=f"{repo.server.url}/repo/repo-{1 if repo.name == 'repo-0' else 0}/simple/"
        ),
        401,
        "The user name must be the repo's name, as it stands in the path.",
    ),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
@pytest.mark.parametrize("publisher", PUBLISHERS)
def test_who_may_not_publish_gets_the_reason(repo: Repo, computer: Computer, tree_of, publisher: str, case: Refused):
    output = publish(publisher, computer, tree_of(publisher), case.index(repo), fails=True)

    assert str(case.status) in output.text
    assert publisher in SILENT or case.says in " ".join(output.text.split()), output.text
    assert projects(repo) == []
    assert stored(repo) == []


def changed_tree(folder: Path, computer: Computer, publisher: str) -> SourceTree:
    """Build the same release with one more module."""
    tree = source_tree(folder, "acme", BUILDER_OF[publisher])
    (tree.folder / tree.module / "more.py").write_text("MORE = 1\n")
    tree.build(computer)
    return tree


@pytest.mark.parametrize("content", ["same", "other"])
@pytest.mark.parametrize("publisher", PUBLISHERS)
def test_a_published_file_stays_as_it_is(
    repo: Repo, computer: Computer, tmp_path: Path, tree_of, publisher: str, content: str
):
    tree = tree_of(publisher)
    publish(publisher, computer, tree, repo.writing)
    before = contents(repo)
    if content == "other":
        tree = changed_tree(tmp_path / "other", computer, publisher)

    output = publish(publisher, computer, tree, repo.writing, fails=content == "other")

    if content == "other":
        assert "409" in output.text
        assert publisher in SILENT or "File already exists: acme-1.0" in output.text
    assert contents(repo) == before


SKIPPING = [
    # publisher, options, what it prints
    ("uv", lambda repo: ("--check-url", repo.reading.with_user), "File acme-1.0.tar.gz already exists, skipping"),
    ("poetry", lambda repo: ("--skip-existing",), "acme-1.0.tar.gz File exists. Skipping"),
    ("pdm", lambda repo: ("--skip-existing",), "Skipping acme-1.0.tar.gz because it appears to already exist"),
]


@pytest.mark.parametrize(("publisher", "options", "says"), SKIPPING, ids=[case[0] for case in SKIPPING])
def test_publishing_what_is_there_can_be_skipped(
    repo: Repo, computer: Computer, tree_of, tmp_path: Path, publisher: str, options, says: str
):
    tree = tree_of(publisher)
    publish(publisher, computer, tree, repo.writing)
    if publisher != "uv":  # the others skip on a 409, which the same bytes do not get
        tree = changed_tree(tmp_path / "other", computer, publisher)

    output = publish(publisher, computer, tree, repo.writing, *options(repo))

    assert says in output.text


def test_uv_distinguishes_other_content_from_the_same(repo: Repo, computer: Computer, tmp_path: Path, tree_of):
    publish("uv", computer, tree_of("uv"), repo.writing)
    tree = source_tree(tmp_path / "src", "acme", "flit")
    tree.build(computer)

    output = publish("uv", computer, tree, repo.writing, "--check-url", repo.reading.with_user, fails=True)

    assert "Local file and index file do not match" in output.text


def test_twine_skips_only_where_it_knows_the_index(repo: Repo, computer: Computer, tmp_path: Path, tree_of):
    """twine 7 accepts --skip-existing for PyPI only. With that check disabled, it skips the files that we refuse."""
    tree = tree_of("twine")
    publish("twine", computer, tree, repo.writing)
    output = publish("twine", computer, tree, repo.writing, "--skip-existing", fails=True)
    assert "UnsupportedConfiguration" in output.text

    tree = changed_tree(tmp_path / "other", computer, "twine")
    script = (
        "import sys, twine.__main__, twine.repository as r\n"
        "r.WAREHOUSE = sys.argv.pop(1)\n"
        "r.Repository.package_is_uploaded = lambda *_: False  # it would ask PyPI\n"
        "twine.__main__.main()"
    )
    arguments = ("upload", "--skip-existing", "--non-interactive", "--disable-progress-bar")
    named = (f"--repository-url={repo.writing.url}", f"-u{repo.name}", f"-p{repo.writing.secret}")
    files = sorted((tree.folder / "dist").iterdir())
    output = computer.run("python", "-c", script, repo.server.url, *arguments, *named, *files)
    assert output.text.count("it appears to already exist") == 2


SIZES = [("a-bit-over", LIMIT), ("far-over", 40_000_000)]


@pytest.mark.parametrize("size", [size for _, size in SIZES], ids=[name for name, _ in SIZES])
@pytest.mark.parametrize("publisher", PUBLISHERS)
def test_a_file_over_the_limit_is_refused(repo: Repo, computer: Computer, tmp_path: Path, publisher: str, size: int):
    tree = source_tree(tmp_path / "src", "acme", BUILDER_OF[publisher])
    if publisher == "flit":  # flit builds the files itself, and compresses them
        (tree.folder / tree.module / "data.bin").write_bytes(os.urandom(size))
    else:
        dist = tree.folder / "dist"
        dist.mkdir()
        wheel(dist, "acme", payload=bytes(size))

    output = publish(publisher, computer, tree, repo.writing, fails=True)

    assert "413" in output.text
    reason = f"The file is over this repo's limit of {LIMIT} bytes (max_file_bytes)."
    assert publisher in SILENT or reason in " ".join(output.text.split()), output.text
    assert projects(repo) == []
    assert stored(repo) == []


def test_a_file_at_the_limit_is_taken(repo: Repo, computer: Computer, tmp_path: Path):
    around = wheel(tmp_path, "acme", payload=b"").stat().st_size
    # The recorded size and hash of the payload add a few digits.
    file = wheel(tmp_path, "acme", payload=bytes(LIMIT - around - 6))
    assert file.stat().st_size == LIMIT

    computer.run(
        "twine", "upload", f"--repository-url={repo.writing.url}", f"-u{repo.name}", f"-p{repo.writing.secret}", file
    )

    assert stored(repo) == [file.name]


BAD_FILES = [
    # file name, name and version in the metadata, reason
    ("acme-2.0-py3-none-any.whl", ("acme", "1.0"), "version is '1.0'; the file name says '2.0'."),
    ("other-1.0-py3-none-any.whl", ("acme", "1.0"), "name is 'acme'; the file name says 'other'."),
]


@pytest.mark.parametrize(("filename", "inside", "says"), BAD_FILES, ids=[case[0] for case in BAD_FILES])
def test_a_file_that_is_not_what_its_name_says_is_refused(
    repo: Repo, computer: Computer, tmp_path: Path, filename: str, inside: tuple[str, str], says: str
):
    file = wheel(tmp_path, *inside).rename(tmp_path / filename)
    named = (f"--publish-url={repo.writing.url}", f"-u{repo.name}", f"-p{repo.writing.secret}")

    # uv checks the file and stops before it sends anything; twine sends what the file's name says.
    output = computer.run("uv", "publish", *named, file, fails=True)
    assert stored(repo) == [], output.text
    named = (f"--repository-url={repo.writing.url}", f"-u{repo.name}", f"-p{repo.writing.secret}")
    output = computer.run("twine", "upload", "--disable-progress-bar", *named, file, fails=True)

    assert "400" in output.text
    assert says in " ".join(output.text.split()), output.text
    assert stored(repo) == []


def projects(repo: Repo) -> list[str]:
    """Return the repo's projects as the server lists them."""
    reply = call(
        repo.reading.url,
        auth=f"{repo.name}:{repo.reading.secret}",
        headers={"Accept": "application/vnd.pypi.simple.v1+json"},
    )
    return [project["name"] for project in reply.json()["projects"]]


def stored(repo: Repo) -> list[str]:
    """Return the names of the distribution files on the disk and of temporary files that uploads left behind."""
    folder = repo.storage.parent
    return sorted(p.name for p in folder.rglob("*") if p.name.endswith((".whl", ".tar.gz", ".tmp")))


def contents(repo: Repo) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in repo.storage.rglob("*") if p.is_file()}
