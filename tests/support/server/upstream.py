"""A third party's Simple index on loopback, as well or badly behaved as a test needs."""

import asyncio
import contextlib
import hashlib
import json
import threading
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

from aiohttp import web

from support.background import in_background
from support.server.calling import basic
from support.waiting import until

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "text/html"
_FLOOD_BYTES = 200 * 1024 * 1024
_CHUNK = bytes(1024 * 1024)
_DRIP_S = 0.2
_SLOW_PIECES = 10
_OLD = "2024-01-02T03:04:05.000000Z"

How = Literal["whole", "hang", "drip", "flood", "cut", "slow", "held", "bomb"]


@dataclass(frozen=True)
class Answer:
    """The response of a project's page.

    `how`: whole; hang (no byte is ever sent); drip (the headers, then a byte now and then, forever); flood (200 MiB
    after `body`); cut (half of `body`, then the connection ends); slow (`body` in ten pieces, with pauses); held (half
    of `body`, the rest once `Upstream.go_on` is set); bomb (gzip of zeros, without an end).
    """

    body: bytes = b""
    content_type: str = JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    how: How = "whole"
    etag: str | None = None
    """The page's ETag. A request that names it gets 304."""


@dataclass(frozen=True)
class Asked:
    """A request that the index received."""

    path: str
    headers: Mapping[str, str]


class Upstream:
    """A running index; `url` is the value for --extra_index_url."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Asked] = []
        self.answers: dict[str, Answer | Callable[[Asked], Answer]] = {}
        """Responses of `/simple/<key>/` by key; other projects get 404."""
        self.root: Answer | None = None
        """The response of the list of projects; None: the projects in `answers`."""
        self.file_answers: dict[str, Answer] = {}
        """Responses of `/files/<name>`, before those of offered files."""
        self.credentials: str | None = None
        """USER:PASSWORD that every request must send; None: none."""
        self.down = False
        """Whether every connection is ended without an answer."""
        self.go_on = threading.Event()
        """Set to let the answers that are `held` go on."""
        self.files: dict[str, Path] = {}
        """Offered files by name, their `.metadata` included."""

    def asked(self, project: str) -> int:
        """Return the number of requests for a project's page."""
        return sum(request.path == f"/simple/{project}/" for request in self.requests)

    def fetched(self) -> list[str]:
        """Return the names of the files that were asked for, one entry a request."""
        paths = [request.path for request in self.requests]
        return [unquote(path.removeprefix("/files/")) for path in paths if path.startswith("/files/")]

    def offer(
        self,
        project: str,
        *files: Path,
        formats: tuple[str, ...] = (JSON, HTML),
        uploaded: Mapping[str, str] | None = None,
        core_metadata: bool = False,
        serial: int | None = None,
        fields: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        """Offer these files of a project on a page in the best of `formats`, with relative links.

        `uploaded` holds upload times by file name; the others are years old. With `core_metadata` the metadata of
        wheels is offered beside them. With a `serial` the page has it as PyPI's has, and an ETag. `fields` holds fields
        of the JSON page by file name, which replace those that are made.
        """
        self.files |= {file.name: file for file in files}
        times = uploaded or {}
        entries = [_entry(f, times.get(f.name, _OLD)) for f in files]
        for file, entry in zip(files, entries, strict=True):
            if core_metadata and file.suffix == ".whl":
                beside = _write_metadata(file)
                self.files[beside.name] = beside
                entry["core-metadata"] = {"sha256": hashlib.sha256(beside.read_bytes()).hexdigest()}
            entry.update((fields or {}).get(file.name, {}))
        meta: dict[str, object] = {"api-version": "1.1"}
        if serial is not None:
            meta["_last-serial"] = serial
        as_json = _page(json.dumps({"meta": meta, "name": project, "files": entries}), JSON, serial)
        as_html = _page("<!DOCTYPE html><html><body>" + "".join(_anchor(f) for f in files), HTML, serial)

        def answer(asked: Asked) -> Answer:
            wants_json = JSON in formats and JSON in asked.headers.get("Accept", "")
            return as_json if wants_json else as_html

        self.answers[project] = answer

    def _asked(self, request: web.Request) -> Asked:
        asked = Asked(request.raw_path, dict(request.headers))
        if self.down:
            assert request.transport is not None
            request.transport.abort()
            raise web.HTTPServiceUnavailable
        self.requests.append(asked)
        if self.credentials is not None and asked.headers.get("Authorization") != basic(self.credentials):
            raise web.HTTPUnauthorized
        return asked

    async def _root(self, request: web.Request) -> web.StreamResponse:
        self._asked(request)
        listed = {"meta": {"api-version": "1.0"}, "projects": [{"name": name} for name in self.answers]}
        return await self._respond(request, self.root or Answer(json.dumps(listed).encode()))

    async def _page(self, request: web.Request) -> web.StreamResponse:
        asked = self._asked(request)
        answer = self.answers.get(request.match_info["project"])
        if callable(answer):
            answer = answer(asked)
        if answer is None:
            raise web.HTTPNotFound
        if answer.etag is not None and asked.headers.get("If-None-Match") == answer.etag:
            return web.Response(status=304, headers=answer.headers)
        return await self._respond(request, answer)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        self._asked(request)
        name = request.match_info["file"]
        if name in self.file_answers:
            return await self._respond(request, self.file_answers[name])
        path = self.files.get(name)
        if path is None:
            raise web.HTTPNotFound
        return web.FileResponse(path, headers={"Content-Type": "application/octet-stream"})

    async def _respond(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        headers = {"Content-Type": answer.content_type, **answer.headers}
        match answer.how:
            case "whole":
                return web.Response(status=answer.status, body=answer.body, headers=headers)
            case "hang":
                await asyncio.Event().wait()
                raise AssertionError
            case "bomb":
                headers["Content-Encoding"] = "gzip"
        response = web.StreamResponse(status=answer.status, headers=headers)
        if answer.how in {"cut", "slow", "held"}:
            response.content_length = len(answer.body)
        await response.prepare(request)
        async for piece in self._pieces(answer):
            await response.write(piece)
        if answer.how == "cut":
            assert request.transport is not None
            request.transport.abort()
        else:
            await response.write_eof()
        return response

    async def _pieces(self, answer: Answer) -> AsyncIterator[bytes]:
        """Yield the body of an answer that is not sent whole."""
        body, half = answer.body, len(answer.body) // 2
        match answer.how:
            case "cut":
                yield body[:half]
            case "slow":
                step = max(1, -(-len(body) // _SLOW_PIECES))
                for at in range(0, len(body), step):
                    yield body[at : at + step]
                    await asyncio.sleep(_DRIP_S)
            case "held":
                yield body[:half]
                await until(self.go_on.is_set, "the test to let the answer go on", longest_s=60)
                yield body[half:]
            case _:
                async for piece in _without_end(answer):
                    yield piece

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve within the context, on a free port."""
        app = web.Application()
        app.router.add_get("/simple/", self._root)
        app.router.add_get("/simple/{project}/", self._page)
        app.router.add_get("/files/{file}", self._file)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/simple/"
            yield
        finally:
            await runner.cleanup()


@contextlib.contextmanager
def upstream() -> Iterator[Upstream]:
    """Run an index in its own thread, for tests that are not asynchronous or that block."""
    index = Upstream()
    with in_background(index.serving(), "upstream"):
        yield index


async def _without_end(answer: Answer) -> AsyncIterator[bytes]:
    match answer.how:
        case "drip":
            while True:
                yield b" "
                await asyncio.sleep(_DRIP_S)
        case "flood":
            yield answer.body
            for _ in range(_FLOOD_BYTES // len(_CHUNK)):
                yield _CHUNK
        case "bomb":
            packer = zlib.compressobj(9, zlib.DEFLATED, 31)
            while True:
                yield packer.compress(_CHUNK)


def _page(text: str, content_type: str, serial: int | None) -> Answer:
    body = text.encode()
    if serial is None:
        return Answer(body, content_type)
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    return Answer(body, content_type, headers={"ETag": etag, "X-PyPI-Last-Serial": str(serial)}, etag=etag)


def _entry(file: Path, uploaded: str) -> dict[str, object]:
    content = file.read_bytes()
    return {
        "filename": file.name,
        "url": f"../../files/{quote(file.name)}",
        "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
        "size": len(content),
        "requires-python": ">=3.8",
        "upload-time": uploaded,
        "yanked": False,
    }


def _write_metadata(file: Path) -> Path:
    """Write a wheel's core metadata beside it."""
    name, version = file.name.split("-")[:2]
    with zipfile.ZipFile(file) as archive:
        content = archive.read(f"{name}-{version}.dist-info/METADATA")
    beside = file.with_name(f"{file.name}.metadata")
    beside.write_bytes(content)
    return beside


def _anchor(file: Path) -> str:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    link = f"../../files/{quote(file.name)}#sha256={digest}"
    return f'<a href="{link}" data-requires-python="&gt;=3.8">{file.name}</a><br>\n'
