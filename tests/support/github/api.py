"""GitHub's API for tests: the emulator from npm, with a proxy in front that adds what the emulator lacks.

The emulator keeps repositories, branches and contents. The proxy implements, after GitHub's documentation, tokens and
their rights, releases with their assets, signed URLs, conditional requests, rate limits, GraphQL, Actions' secrets,
Pages and Apps' tokens. It also injects faults.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import io
import itertools
import json
import re
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import unquote

import aiohttp
import jwt
from aiohttp import web
from nacl.public import PrivateKey, SealedBox

from support.cluster.kube_client import Json
from support.github.faults import Call, Fault, template
from support.github.store import Kept, Refused, Releases

LIMIT = 5000
SIGNED_S = 300
LEVELS = {"none": 0, "read": 1, "write": 2, "admin": 3}
_REPO = re.compile(r"/repos/([^/]+/[^/]+)(/.*)?\Z")
_WRITES = {"POST", "PUT", "PATCH", "DELETE"}


@dataclass
class Repository:
    """The proxy's state of one repository."""

    releases: Releases
    key: PrivateKey = field(default_factory=PrivateKey.generate)
    secrets: dict[str, str] = field(default_factory=dict)
    """Secrets of Actions, decrypted."""
    pages: Json | None = None
    gives_files: Literal["elsewhere", "in ranges", "whole"] = "elsewhere"
    """How files are served: from a signed URL, or directly with or without ranges."""


class GithubApi:
    """A GitHub; `url` is the address for clients."""

    def __init__(self, emulator: str, admins: Sequence[str]) -> None:
        self._emulator, self._admins = emulator, itertools.cycle(admins)
        self.url = ""
        self.tokens: dict[str, dict[str, str]] = {}
        """Levels by token and repository; `*` stands for every repository."""
        self.blind: set[str] = set()
        """Tokens that may see only the repository's description, regardless of their owner's rights."""
        self.app_key: str | None = None
        """Public key (PEM) of the App, whose installation gets tokens with write access to every repository."""
        self.repositories: dict[str, Repository] = {}
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self.list_cap = 10_000
        self._remaining: dict[str, int] = {}
        """Remaining calls by token."""
        self.signed_s = SIGNED_S
        self._numbers = itertools.count(1)
        self._signing = secrets.token_bytes(16)
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve within the context, on a free port."""
        app = web.Application(client_max_size=2**31)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        self._runner, self._loop = runner, asyncio.get_running_loop()
        async with aiohttp.ClientSession() as self._session:
            try:
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                self.url = f"http://localhost:{runner.addresses[0][1]}"
                yield
            finally:
                await runner.cleanup()

    def over_tls(self, context: ssl.SSLContext) -> str:
        """Serve on an additional port over TLS and return its URL. May be called from any thread."""
        assert self._runner is not None
        assert self._loop is not None
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        asyncio.run_coroutine_threadsafe(site.start(), self._loop).result(10)
        return f"https://localhost:{self._runner.addresses[-1][1]}"

    def repository(self, name: str) -> Repository:
        return self.repositories.setdefault(name, Repository(Releases(self._numbers)))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        verb, path = request.method, request.rel_url.raw_path
        fault = next((one for one in self.faults if one.fits(verb, path)), None)
        if fault is not None:
            fault.times -= 1
            await asyncio.sleep(fault.delay_s)
            if not fault.is_only_late and fault.when == "before":
                return self._failed(request, fault)
        response = await self._answered(request)
        if fault is not None and not fault.is_only_late and fault.when == "after":
            return self._failed(request, fault)
        self._note(request, response.status)
        return response

    def _failed(self, request: web.Request, fault: Fault) -> web.Response:
        self._note(request, fault.status or 0)
        if fault.status is None:
            assert request.transport is not None
            request.transport.abort()
            raise asyncio.CancelledError
        return web.json_response(fault.body, status=fault.status, headers=fault.headers)

    def _note(self, request: web.Request, status: int) -> None:
        conditional = "If-None-Match" in request.headers
        path = template(request.rel_url.raw_path)
        self.calls.append(Call(request.method, path, status, conditional, _token(request) or ""))

    async def _answered(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path
        try:
            if path.startswith("/signed/"):
                return self._signed(request)
            status, data, headers = await self._api(request, path)
        except Refused as refused:
            status, data, headers = refused.status, refused.body, {}
        if status == 200 and request.method == "GET" and not isinstance(data, bytes):
            etag = f'W/"{hashlib.sha256(json.dumps(data).encode()).hexdigest()}"'
            if request.headers.get("If-None-Match") == etag:
                return web.Response(status=304, headers={"ETag": etag, **self._limits(request)})
            headers = {**headers, "ETag": etag}
        self._remaining[_token(request) or ""] = self._left(request) - 1
        headers = {**headers, **self._limits(request)}
        if data is None:
            return web.Response(status=status, headers=headers)
        if isinstance(data, bytes):
            return web.Response(body=data, status=status, headers=headers)
        return web.json_response(data, status=status, headers=headers)

    def _left(self, request: web.Request) -> int:
        return self._remaining.get(_token(request) or "", LIMIT)

    def _limits(self, request: web.Request) -> dict[str, str]:
        reset = str(int(time.time()) + 3000)
        left = str(max(self._left(request), 0))
        shown = {"Limit": str(LIMIT), "Remaining": left, "Reset": reset, "Resource": "core"}
        return {f"X-RateLimit-{name}": value for name, value in shown.items()}

    async def _api(self, request: web.Request, path: str) -> tuple[int, Any, dict[str, str]]:
        if path.startswith("/app/installations/"):
            return 201, self._installation_token(request), {}
        token = self._known_token(request)
        matched = _REPO.match(path)
        if path == "/graphql":
            return 200, self._graphql(token, await request.json()), {}
        if matched is None:
            return await self._passed(request)
        return await self._of_repository(request, token, matched[1], matched[2] or "")

    def _known_token(self, request: web.Request) -> str:
        token = _token(request)
        if token is None or token not in self.tokens:
            raise Refused(401, "Bad credentials")
        if self._left(request) <= 0:
            raise Refused(403, "API rate limit exceeded")
        return token

    async def _of_repository(
        self, request: web.Request, token: str, name: str, rest: str
    ) -> tuple[int, Any, dict[str, str]]:
        level = self._level(token, name)
        if level < LEVELS["read"]:
            raise Refused(404, "Not Found")
        if token in self.blind and rest:
            raise Refused(403, "Resource not accessible by personal access token")
        if request.method in _WRITES and level < LEVELS["write"]:
            raise Refused(403, "Resource not accessible by personal access token")
        for pattern, handler in self._ROUTES:
            if found := re.fullmatch(pattern, rest):
                return await handler(self, request, self.repository(name), found, name)
        status, data, headers = await self._passed(request)
        if rest == "" and isinstance(data, dict) and status == 200:
            may = {"admin": level > 2, "push": level > 1, "pull": level > 0}
            data = data | {"permissions": may}
        if request.method in {"PUT", "DELETE"} and rest.startswith("/contents/") and status < 300:
            self.repository(name).releases.committed_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return status, data, headers

    def _level(self, token: str, name: str) -> int:
        levels = self.tokens[token]
        return LEVELS[levels.get(name, levels.get("*", "none"))]

    async def _passed(self, request: web.Request) -> tuple[int, Any, dict[str, str]]:
        """Forward a request to the emulator; returns its response with the emulator's address replaced by this one."""
        assert self._session is not None
        content = await request.read()
        headers = {"Authorization": f"token {next(self._admins)}", "Content-Type": "application/json"}
        url = f"{self._emulator}{request.rel_url}"
        async with self._session.request(
            request.method, url, data=io.BytesIO(content) if content else None, headers=headers
        ) as response:
            text = (await response.text()).replace(self._emulator, f"{request.scheme}://{request.host}")
        try:
            return response.status, json.loads(text) if text else None, {}
        except ValueError:
            return response.status, {"message": text[:500]}, {}

    # Releases

    @staticmethod
    def _base(request: web.Request, name: str) -> str:
        """Return the releases' URL at the address that this client uses; clients may use different addresses."""
        return f"{request.scheme}://{request.host}/repos/{name}/releases"

    async def _releases(
        self, request: web.Request, repository: Repository, _: re.Match[str], name: str
    ) -> tuple[int, Any, dict[str, str]]:
        releases, base = repository.releases, self._base(request, name)
        if request.method == "POST":
            return 201, releases.add(await request.json()).shown(base), {}
        token = _token(request) or ""
        may_write = self._level(token, name) >= LEVELS["write"]
        size, page = int(request.query.get("per_page", "30")), int(request.query.get("page", "1"))
        if (page - 1) * size >= self.list_cap:
            raise Refused(422, f"Only the first {self.list_cap} results are available.")
        listed = releases.listed(with_drafts=may_write)[: self.list_cap]
        shown = [one.shown(base) for one in listed[(page - 1) * size : page * size]]
        more = len(listed) > page * size
        link = {"Link": f'<{base}?per_page={size}&page={page + 1}>; rel="next"'} if more else {}
        return 200, shown, link

    async def _by_tag(
        self, request: web.Request, repository: Repository, found: re.Match[str], name: str
    ) -> tuple[int, Any, dict[str, str]]:
        release = repository.releases.by_tag(unquote(found[1]))
        if release is None:
            raise Refused(404, "Not Found")
        return 200, release.shown(self._base(request, name)), {}

    async def _release(
        self, request: web.Request, repository: Repository, found: re.Match[str], name: str
    ) -> tuple[int, Any, dict[str, str]]:
        releases, number = repository.releases, int(found[1])
        match request.method:
            case "PATCH":
                return 200, releases.change(number, await request.json()).shown(self._base(request, name)), {}
            case "DELETE":
                releases.one(number)
                del releases.all[number]
                return 204, None, {}
        return 200, releases.one(number).shown(self._base(request, name)), {}

    async def _attach(
        self, request: web.Request, repository: Repository, found: re.Match[str], name: str
    ) -> tuple[int, Any, dict[str, str]]:
        content = await request.read()
        if len(content) != request.content_length:
            raise Refused(400, "Bad Content-Length")
        made = repository.releases.attach(int(found[1]), request.query["name"], content)
        return 201, made.shown(self._base(request, name)), {}

    async def _asset(
        self, request: web.Request, repository: Repository, found: re.Match[str], name: str
    ) -> tuple[int, Any, dict[str, str]]:
        asset = repository.releases.asset(int(found[1]))
        if request.method == "DELETE":
            repository.releases.detach(asset.id)
            return 204, None, {}
        if request.headers.get("Accept") != "application/octet-stream":
            return 200, asset.shown(self._base(request, name)), {}
        if repository.gives_files != "elsewhere":
            status, content, shown = _ranged(request, asset.content)
            return (200, asset.content, {}) if repository.gives_files == "whole" else (status, content, shown)
        end = datetime.fromtimestamp(time.time() + self.signed_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        signed = f"/signed/{name}/{asset.id}?se={end.replace(':', '%3A')}"
        return (
            302,
            None,
            {"Location": f"{request.scheme}://{request.host}{signed}&sig={self._sign(f'{name}/{asset.id}', end)}"},
        )

    def _sign(self, asset: str, end: str) -> str:
        return hmac.new(self._signing, f"{asset} {end}".encode(), hashlib.sha256).hexdigest()

    def _signed(self, request: web.Request) -> web.StreamResponse:
        """Serve a signed URL as GitHub's storage does, which rejects requests with a token."""
        _, _, owner, repo, number = request.rel_url.raw_path.split("/")
        end = request.query.get("se", "")
        if "Authorization" in request.headers:
            return web.Response(status=400, text="InvalidAuthenticationInfo")
        if request.query.get("sig") != self._sign(f"{owner}/{repo}/{number}", end) or _is_past(end):
            return web.Response(status=403, text="AuthenticationFailed")
        content = self.repository(f"{owner}/{repo}").releases.asset(int(number)).content
        status, part, shown = _ranged(request, content)
        return web.Response(status=status, body=part, headers=shown)

    def _graphql(self, token: str, query: Json) -> Json:
        given = query["variables"]
        name = f"{given['owner']}/{given['name']}"
        if self._level(token, name) < LEVELS["read"]:
            return {"data": {"repository": None}, "errors": [{"type": "NOT_FOUND", "message": "no such repository"}]}
        releases = sorted(self.repository(name).releases.all.values(), key=lambda one: one.id)
        if "totalCount" in query["query"]:
            return {"data": {"repository": {"releases": {"totalCount": len(releases)}}}}
        first = int(base64.b64decode(given["after"])) if given.get("after") else 0
        page = releases[first : first + 100]
        info = {
            "hasNextPage": first + 100 < len(releases),
            "endCursor": base64.b64encode(str(first + len(page)).encode()).decode() if page else None,
        }
        return {"data": {"repository": {"releases": {"pageInfo": info, "nodes": [_node(one) for one in page]}}}}

    # Actions, Pages and Apps

    async def _public_key(
        self, _: web.Request, repository: Repository, found: re.Match[str], name: str
    ) -> tuple[int, Any, dict[str, str]]:
        return 200, {"key_id": "1", "key": base64.b64encode(bytes(repository.key.public_key)).decode()}, {}

    async def _secret(
        self, request: web.Request, repository: Repository, found: re.Match[str], name: str
    ) -> tuple[int, Any, dict[str, str]]:
        if request.method == "PUT":
            sealed = base64.b64decode((await request.json())["encrypted_value"])
            is_new = found[1] not in repository.secrets
            repository.secrets[found[1]] = SealedBox(repository.key).decrypt(sealed).decode()
            return (201 if is_new else 204), ({} if is_new else None), {}
        if found[1] not in repository.secrets:
            raise Refused(404, "Not Found")
        return 200, {"name": found[1], "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}, {}

    async def _pages(
        self, request: web.Request, repository: Repository, _: re.Match[str], name: str
    ) -> tuple[int, Any, dict[str, str]]:
        if request.method in {"POST", "PUT"}:
            if request.method == "POST" and repository.pages is not None:
                raise Refused(409, "GitHub Pages is already enabled.")
            repository.pages = await request.json()
            return (201 if request.method == "POST" else 204), repository.pages, {}
        if repository.pages is None:
            raise Refused(404, "Not Found")
        return 200, repository.pages, {}

    def _installation_token(self, request: web.Request) -> Json:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        try:
            assert scheme == "Bearer"
            jwt.decode(given, self.app_key or "", algorithms=["RS256"])
        except (AssertionError, jwt.PyJWTError):
            raise Refused(401, "A JSON web token could not be decoded") from None
        token = f"ghs_{secrets.token_hex(8)}"
        self.tokens[token] = {"*": "write"}
        end = datetime.fromtimestamp(time.time() + 3600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"token": token, "expires_at": end, "permissions": {"contents": "write"}}

    _Route = Callable[
        ["GithubApi", web.Request, Repository, re.Match[str], str], Awaitable[tuple[int, Any, dict[str, str]]]
    ]
    _ROUTES: tuple[tuple[str, _Route], ...] = (
        (r"/releases", _releases),
        (r"/releases/tags/(.+)", _by_tag),
        (r"/releases/(\d+)", _release),
        (r"/releases/(\d+)/assets", _attach),
        (r"/releases/assets/(\d+)", _asset),
        (r"/actions/secrets/public-key", _public_key),
        (r"/actions/secrets/([A-Za-z0-9_]+)", _secret),
        (r"/pages", _pages),
    )


def _token(request: web.Request) -> str | None:
    _, _, token = request.headers.get("Authorization", "").partition(" ")
    return token or None


def _ranged(request: web.Request, content: bytes) -> tuple[int, bytes, dict[str, str]]:
    """Return status, body and headers of a response with a file, or with the requested part of it."""
    given = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if given is None:
        return 200, content, {"Accept-Ranges": "bytes"}
    first, last = int(given[1]), min(int(given[2] or len(content) - 1), len(content) - 1)
    return 206, content[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(content)}"}


def _node(release: Kept) -> Json:
    assets = [{"name": one.name, "size": len(one.content)} for one in release.assets.values()]
    return {
        "databaseId": release.id,
        "tagName": release.tag,
        "isDraft": release.draft,
        "description": release.body,
        "publishedAt": release.published_at,
        "releaseAssets": {"nodes": assets},
    }


def _is_past(end: str) -> bool:
    try:
        return datetime.fromisoformat(end).timestamp() < time.time()
    except ValueError:
        return True
