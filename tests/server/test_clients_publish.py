"""Tests of real build tools and publishers: the files that they upload are stored unchanged and can be installed."""

import hashlib
from pathlib import Path

import pytest

from support.clients.computer import Computer
from support.clients.publishing import publish
from support.distributions.projects import source_tree
from support.server.calling import call
from support.server.repos import Repo

REPO_ADDRESS = "/repo/{name}/simple/"
OWN_SLASH_LEFT_OUT = "/repo/{name}/simple"
FLAT_ADDRESS = "/simple/"
FLAT_SLASH_LEFT_OUT = "/simple"

CASES = [
    # publisher, builder, address
    ("twine", "setuptools", REPO_ADDRESS),
    ("twine", "hatchling", OWN_SLASH_LEFT_OUT),
    ("twine", "poetry", FLAT_ADDRESS),
    ("twine", "flit", FLAT_SLASH_LEFT_OUT),
    ("uv", "hatchling", REPO_ADDRESS),
    ("uv", "setuptools", OWN_SLASH_LEFT_OUT),
    ("uv", "flit", FLAT_ADDRESS),
    ("uv", "poetry", FLAT_SLASH_LEFT_OUT),
    ("poetry", "poetry", REPO_ADDRESS),
    ("poetry", "poetry", FLAT_ADDRESS),
    ("flit", "flit", REPO_ADDRESS),
    ("flit", "flit", FLAT_ADDRESS),
    ("pdm", "hatchling", REPO_ADDRESS),
    ("pdm", "setuptools", FLAT_ADDRESS),
]
JSON = "application/vnd.pypi.simple.v1+json"


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case).replace("/", "."))
def test_publishes_and_is_installed_again(repo: Repo, computer: Computer, tmp_path: Path, case: tuple[str, ...]):
    publisher, builder, address = case
    tree = source_tree(tmp_path / "src", "acme-Thing", builder)
    built = tree.build(computer)

    publish(publisher, computer, tree, repo.index("write", address))

    sent = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (tree.folder / "dist").iterdir()}
    assert set(sent) == {p.name for p in built}
    page = call(
        f"{repo.reading.url}acme-thing/", auth=f"{repo.name}:{repo.reading.secret}", headers={"Accept": JSON}
    ).json()
    files = {f["filename"]: f for f in page["files"]}
    assert {name: f["hashes"]["sha256"] for name, f in files.items()} == sent
    assert {f["requires-python"] for f in files.values()} == {">=3.9"}
    assert page["versions"] == ["1.0"]
    wheel = next(f for name, f in files.items() if name.endswith(".whl"))
    assert wheel["core-metadata"], "the wheel's metadata is not offered by itself"

    index = repo.index("read", address).with_user
    for kind in ("--only-binary=:all:", "--no-binary=:all:"):
        target = tmp_path / kind
        # The interpreter that pip itself runs in has the build backends, which an sdist needs.
        arguments = ("--no-build-isolation", kind, f"--index-url={index}", f"--target={target}", "acme-thing")
        computer.run("pip", "install", *arguments)
        assert (target / "acme_thing" / "__init__.py").read_text().endswith(f'VALUE = "{builder}"\n')
    assert repo.fetched() >= set(sent)
