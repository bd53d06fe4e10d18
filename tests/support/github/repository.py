"""A GitHub on loopback with a repository for each test (fixture `github`)."""

import base64
import contextlib
import itertools
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import yaml

from support.background import in_background
from support.github.api import GithubApi, Repository
from support.github.emulate_build import emulate_command
from support.github.faults import Call, Fault
from support.ports import free_port
from support.waiting import wait_for

OWNER = "acme"
BRANCH = "main"
_ADMINS = [f"ghp_admin_of_the_emulator_{number}" for number in range(100)]
"""Tokens for the emulator; each may make 5,000 calls an hour."""
_START_S = 60.0


class Github:
    """A running GitHub for all tests of a process; each test has its own repository."""

    def __init__(self, api: GithubApi) -> None:
        self.api = api
        self._numbers = itertools.count(1)
        self._mark = os.urandom(3).hex()

    @property
    def url(self) -> str:
        """The value for `api_url`."""
        return self.api.url

    def repository(self) -> "TestRepository":
        """Create a private repository of OWNER with a README, and tokens for it."""
        name = f"wheels-{next(self._numbers)}-{self._mark}"
        admin = f"ghp_{name.replace('-', '_')}_admin"
        self.api.tokens[admin] = {"*": "admin"}
        made = {"name": name, "private": True, "auto_init": True}
        status, said = asked(f"{self.url}/user/repos", admin, "POST", made)
        assert status == 201, f"the emulator makes no repository: {status} {said}"
        return TestRepository(self, name, admin)


class TestRepository:
    """One repository, its tokens, and its state inside the emulated GitHub."""

    __test__ = False

    def __init__(self, github: Github, name: str, admin: str) -> None:
        self.github, self.name, self.admin = github, name, admin
        self._tokens = itertools.count(1)
        self.token_of("write")

    @property
    def full_name(self) -> str:
        return f"{OWNER}/{self.name}"

    @property
    def kept(self) -> Repository:
        return self.github.api.repository(self.full_name)

    @property
    def calls(self) -> list[Call]:
        """The calls that concern this repository."""
        mark = self.name.replace("-", "_")  # as in its tokens: GraphQL's path does not name the repository
        calls = (one for one in self.github.api.calls if one.path != "/user/repos")
        return [one for one in calls if f"/{self.name}" in one.path or mark in one.token]

    def token_of(self, level: str) -> str:
        """Return a new token of a user with that level here and no rights elsewhere."""
        token = f"ghp_{self.name.replace('-', '_')}_{level}_{next(self._tokens)}"
        self.github.api.tokens[token] = {self.full_name: level}
        return token

    def blind(self, token: str) -> None:
        """Make the token a fine-grained one without access to contents; GitHub still reports its owner's rights."""
        self.github.api.blind.add(token)

    def revoke(self, token: str) -> None:
        self.github.api.tokens.pop(token)

    def fail(self, fault: Fault) -> Fault:
        """Inject a fault; its path is what follows the repository's name."""
        fault.path = f"/repos/{self.full_name}{fault.path}"
        self.github.api.faults.append(fault)
        return fault

    def mend(self) -> None:
        self.github.api.faults.clear()

    def visible(self) -> list[str]:
        """Return the tags of the published releases."""
        return sorted(one.tag for one in self.kept.releases.all.values() if not one.draft)

    def drafts(self) -> list[str]:
        return sorted(one.tag for one in self.kept.releases.all.values() if one.draft)

    def index(self, name: str = "index.toml") -> bytes | None:
        """Return the content of the index file in the branch; None if there is none."""
        status, found = asked(f"{self.github.url}/repos/{self.full_name}/contents/?ref={BRANCH}", self.admin)
        sha = next((one["sha"] for one in found if one["name"] == name), None) if status == 200 else None
        if sha is None:
            return None
        _, blob = asked(f"{self.github.url}/repos/{self.full_name}/git/blobs/{sha}", self.admin)
        return base64.b64decode(blob["content"])


def asked(url: str, token: str, verb: str = "GET", data: object = None) -> tuple[int, Any]:
    """Send a plain request; returns its status and JSON."""
    headers = {"Authorization": f"token {token}", "Content-Type": "application/json"}
    request = Request(url, None if data is None else json.dumps(data).encode(), headers, method=verb)
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


@contextlib.contextmanager
def running_github(folder: Path) -> Iterator[Github]:
    """Run the emulator and the API in front of it until the context ends."""
    seed, log = folder / "seed.yaml", folder / "emulate.log"
    scopes = ["repo", "user", "admin:org"]
    users = [{"login": OWNER, "name": "Acme", "email": "acme@example.com"}]
    seed.write_text(
        yaml.safe_dump(
            {"tokens": {one: {"login": OWNER, "scopes": scopes} for one in _ADMINS}, "github": {"users": users}}
        )
    )
    port = free_port()
    command = [*emulate_command(), "start", "--service", "github", "--port", str(port), "--seed", str(seed)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        wait_for(lambda: _listens(port) or _ended(process, log), "the emulator of GitHub", longest_s=_START_S)
        api = GithubApi(f"http://localhost:{port}", _ADMINS)
        with in_background(api.serving(), "github"):
            yield Github(api)
    finally:
        process.kill()
        process.wait(30)


def _ended(process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, f"the emulator ended:\n{log.read_text(errors='replace')}"
    return False


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("localhost", port), timeout=1).close()
    except OSError:
        time.sleep(0.05)
        return False
    return True
