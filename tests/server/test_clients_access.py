"""Tests of real clients against a repo with access entries: they publish and install with a token, as any user."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pywharf.core.access.tokens import digest_of, new_token
from support.clients.computer import Computer, Index
from support.clients.installing import install
from support.clients.publishing import publish, upload
from support.distributions.projects import SourceTree, source_tree
from support.distributions.wheels import wheel
from support.server.serving import Server, running

READER, PUBLISHER = new_token(), new_token()
CONFIG = f"""
[team-a]
type = "file_system"
write_secret = "team-a-write"

[[team-a.access]]
name = "readers"
permission = "Read"
projects = ["acme-*", "dep"]
token_digests = ["{digest_of(READER)}"]

[[team-a.access]]
name = "release"
permission = "Publish"
projects = ["acme-*"]
token_digests = ["{digest_of(PUBLISHER)}"]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("access")
    with running(folder, ["--access_log=json"], config=CONFIG) as server:
        server.secrets |= {READER, PUBLISHER}
        needs_dep = "Requires-Dist: dep\n"
        files = [
            wheel(folder, "acme-app", extra_metadata=needs_dep),
            wheel(folder, "dep"),
            wheel(folder, "hidden"),
        ]
        upload(Computer(folder / "home"), index(server, "team-a-write", "team-a"), *files)
        yield server


def index(server: Server, secret: str, user: str = "__token__") -> Index:
    return Index(f"{server.url}/repo/team-a/simple/", user, secret)


@pytest.mark.parametrize(
    ("tool", "user"),
    [("pip", "__token__"), ("uv", "anybody"), ("poetry", "wharf")],
)
def test_installs_with_a_token(server: Server, computer: Computer, tool: str, user: str):
    python, _ = install(tool, computer, index(server, READER, user), "acme-app")
    assert python.installed() == {"acme-app": "1.0", "dep": "1.0"}


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_hidden_project_is_none(server: Server, computer: Computer, tool: str):
    _, output = install(tool, computer, index(server, READER), "hidden", fails=True)
    said = output.text
    assert "No matching distribution found for hidden" in said or "hidden was not found in the" in said, said
    python, _ = install(tool, computer, index(server, "team-a-write", "team-a"), "hidden", into="owner")
    assert python.installed() == {"hidden": "1.0"}


@pytest.mark.parametrize(("tool", "user"), [("twine", "__token__"), ("uv", "__token__"), ("poetry", "ci")])
def test_publishes_with_a_token(server: Server, computer: Computer, tmp_path: Path, tool: str, user: str):
    publish(tool, computer, built(tmp_path, f"acme-{tool}"), index(server, PUBLISHER, user))
    python, _ = install("uv", computer, index(server, READER), f"acme-{tool}")
    assert python.value(f"acme_{tool}") == "1"

    output = publish(tool, computer, built(tmp_path, f"other-{tool}"), index(server, PUBLISHER, user), fails=True)
    said = " ".join(output.text.split())
    assert "The access entry 'release' does not allow publishing to the project" in said, said


def built(folder: Path, name: str) -> SourceTree:
    """Return a project with a wheel in its `dist` folder."""
    tree = source_tree(folder / name, name, "poetry")
    (tree.folder / "dist").mkdir()
    wheel(tree.folder / "dist", name)
    return tree
