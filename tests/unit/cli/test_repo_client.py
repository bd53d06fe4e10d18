"""The client of one repo: what it sends, how it waits, and what it makes of odd answers."""

import base64
import json
import ssl
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pywharf.cli import repo_client
from pywharf.cli.repo_client import Credentials, RepoAddress, RepoClient
from pywharf.core.errors import (
    ForbiddenError,
    InvalidConfigError,
    InvalidInputError,
    NotFoundError,
    PywharfError,
    RateLimitedError,
    StorageFullError,
    UnavailableError,
)
from pywharf.core.names import ProjectName

SIX = ProjectName("six")
NAME = "six-1.0+local-py3-none-any.whl"
DIGEST = "a" * 64


class Answers:
    """A server whose answers a test gives, in order; the last one is repeated."""

    def __init__(self) -> None:
        self.given: list[tuple[int, bytes | dict[str, object]]] = []
        self.requests: list[tuple[str, str, str | None]] = []

    async def handle(self, request: web.Request) -> web.Response:
        password = None
        if (header := request.headers.get("Authorization")) is not None:
            password = base64.b64decode(header.removeprefix("Basic ")).decode()
        self.requests.append((request.method, request.raw_path, password))
        status, body = self.given.pop(0) if len(self.given) > 1 else self.given[0]
        if status == 302:
            return web.Response(status=302, headers={"Location": "/elsewhere"})
        return web.Response(status=status, body=body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.fixture
async def answers() -> Answers:
    return Answers()


@pytest.fixture
def passwords() -> Iterator[str]:
    return iter(["old", "new", "newest"])


@pytest.fixture
async def client(
    answers: Answers, passwords: Iterator[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RepoClient]:
    monkeypatch.setattr(repo_client, "_PAUSE_S", 0)
    monkeypatch.setattr(repo_client, "proxy_for", lambda _url: None)
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answers.handle)
    async with TestServer(app) as server:
        base = str(server.make_url("/repo/team-a"))
        credentials = Credentials("team-a", lambda: next(passwords))
        async with RepoClient(RepoAddress(base, "team-a"), credentials, ssl.create_default_context()) as made:
            yield made


async def test_a_pin_is_asked_for_until_it_is_there(client: RepoClient, answers: Answers) -> None:
    answers.given = [(202, b""), (202, b""), (201, b"{}")]
    assert await client.pin(SIX, NAME, DIGEST) == 201
    path = "/repo/team-a/-/pins/six/six-1.0%2Blocal-py3-none-any.whl"
    assert answers.requests == [("PUT", path, "team-a:old")] * 3


async def test_a_refused_password_is_read_again(client: RepoClient, answers: Answers) -> None:
    answers.given = [(401, b""), (200, b"{}")]
    assert await client.pin(SIX, NAME, DIGEST) == 200
    assert [password for _, _, password in answers.requests] == ["team-a:old", "team-a:new"]
    answers.given = [(401, b"")]
    with pytest.raises(InvalidConfigError, match="refuses these"):
        await client.unpin(SIX, NAME)
    assert [password for _, _, password in answers.requests[2:]] == ["team-a:new", "team-a:newest"]


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (403, {"detail": "Withheld by Deny"}, ForbiddenError, "^Withheld by Deny$"),
        (404, {"detail": "no such\nfile"}, NotFoundError, "^no such file$"),
        (404, b"\xff", NotFoundError, "The server answers 404"),
        (409, [], InvalidInputError, "The server answers 409"),
        (429, b"", RateLimitedError, "limits the rate"),
        (500, b"[" * 10_000, UnavailableError, "The server answers 500"),
        (502, {"detail": "away", "type": "urn:pywharf:problem:upstream-error"}, UnavailableError, "away"),
        (502, {"detail": "odd", "type": "urn:pywharf:problem:upstream-wrong-content"}, InvalidInputError, "odd"),
        (507, {"detail": "full"}, StorageFullError, "full"),
        (302, b"", InvalidInputError, "The server answers 302"),
        (200, b"x" * 100_000, PywharfError, "cannot be read"),
    ],
)
async def test_answers_that_are_no_pin(
    client: RepoClient, answers: Answers, status: int, body: object, error: type[PywharfError], words: str
) -> None:
    answers.given = [(status, body)]  # type: ignore[list-item]
    with pytest.raises(error, match=words):
        await client.pin(SIX, NAME, DIGEST)
    assert len(answers.requests) == 1


@pytest.mark.parametrize("body", [b"", b"{}", b'{"pins": [{"project": 1}]}', b"<html>"])
async def test_what_is_no_list_of_pins(client: RepoClient, answers: Answers, body: bytes) -> None:
    answers.given = [(200, body)]
    with pytest.raises(InvalidInputError, match="is this the URL of a pywharf server"):
        await client.pins()


async def test_a_server_that_is_not_there(client: RepoClient, answers: Answers) -> None:
    address = RepoAddress("http://127.0.0.1:9/repo/team-a", "team-a")
    async with RepoClient(address, None, ssl.create_default_context()) as nobody:
        with pytest.raises(UnavailableError, match="The server cannot be reached"):
            await nobody.pins()
