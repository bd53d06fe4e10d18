"""A third party's Simple index on loopback, as well or badly behaved as a test needs."""

import asyncio
import contextlib
import hashlib
import json
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aiohttp import web

from support.background import in_background
from support.server.calling import basic

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "text/html"
_FLOOD_BYTES = 200 * 1024 * 1024
_CHUNK = bytes(1024 * 1024)
_DRIP_S = 0.2
_OLD = "2024-01-02T03:04:05.000000Z"

How = Literal["whole", "hang", "drip", "flood", "cut"]


@dataclass(frozen=True)
class Answer:
    """The response of a project's page.

    `how`: whole; hang (no byte is ever sent); drip (the headers, then a byte now and then, forever); flood (200 MiB
    after `body`); cut (half of `body`, then the connection ends).
    """

    body: bytes = b""
    content_type: str = JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    how: How = "whole"


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
        self._files: dict[str, Path] = {}

    def asked(self, project: str) -> int:
        """Return the number of requests for a project's page."""
        return sum(request.path == f"/simple/{project}/" for request in self.requests)

    def offer(
        self,
        project: str,
        *files: Path,
        formats: tuple[str, ...] = (JSON, HTML),
        uploaded: Mapping[str, str] | None = None,
        core_metadata: bool = False,
    ) -> None:
        """Offer these files of a project on a page in the best of `formats`, with relative links.

        `uploaded` holds upload times by file name; the others are years old. With `core_metadata` the files are wheels
        whose metadata is offered beside them.
        """
        self._files |= {file.name: file for file in files}
        times = uploaded or {}
        entries = [_entry(f, times.get(f.name, _OLD)) for f in files]
        if core_metadata:
            for file, entry in zip(files, entries, strict=True):
                beside = _write_metadata(file)
                self._files[beside.name] = beside
                entry["core-metadata"] = {"sha256": hashlib.sha256(beside.read_bytes()).hexdigest()}
        page = {"meta": {"api-version": "1.1"}, "name": project, "files": entries}
        as_json = Answer(json.dumps(page).encode())
        as_html = Answer(("<!DOCTYPE html><html><body>" + "".join(_anchor(f) for f in files)).encode(), HTML)

        def answer(asked: Asked) -> Answer:
            wants_json = JSON in formats and JSON in asked.headers.get("Accept", "")
            return as_json if wants_json else as_html

        self.answers[project] = answer

    def _asked(self, request: web.Request) -> Asked:
        asked = Asked(request.raw_path, dict(request.headers))
        self.requests.append(asked)
        if self.credentials is not None and asked.headers.get("Authorization") != basic(self.credentials):
            raise web.HTTPUnauthorized
        return asked

    async def _root(self, request: web.Request) -> web.StreamResponse:
        self._asked(request)
        listed = {"meta": {"api-version": "1.0"}, "projects": [{"name": name} for name in self.answers]}
        return await _respond(request, self.root or Answer(json.dumps(listed).encode()))

    async def _page(self, request: web.Request) -> web.StreamResponse:
        asked = self._asked(request)
        answer = self.answers.get(request.match_info["project"])
        if callable(answer):
            answer = answer(asked)
        if answer is None:
            raise web.HTTPNotFound
        return await _respond(request, answer)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        self._asked(request)
        name = request.match_info["file"]
        if name in self.file_answers:
            return await _respond(request, self.file_answers[name])
        path = self._files.get(name)
        if path is None:
            raise web.HTTPNotFound
        return web.Response(body=path.read_bytes(), content_type="application/octet-stream")

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


async def _respond(request: web.Request, answer: Answer) -> web.StreamResponse:
    headers = {"Content-Type": answer.content_type, **answer.headers}
    match answer.how:
        case "whole":
            return web.Response(status=answer.status, body=answer.body, headers=headers)
        case "hang":
            await asyncio.Event().wait()
            raise AssertionError
    response = web.StreamResponse(status=answer.status, headers=headers)
    if answer.how == "cut":
        response.content_length = len(answer.body)
    await response.prepare(request)
    match answer.how:
        case "drip":
            while True:
                await response.write(b" ")
                await asyncio.sleep(_DRIP_S)
        case "flood":
            await response.write(answer.body)
            for _ in range(_FLOOD_BYTES // len(_CHUNK)):
                await response.write(_CHUNK)
            await response.write_eof()
        case "cut":
            await response.write(answer.body[: len(answer.body) // 2])
            assert request.transport is not None
            request.transport.abort()
    return response


def _entry(file: Path, uploaded: str) -> dict[str, object]:
    content = file.read_bytes()
    return {
        "filename": file.name,
        "url": f"../../files/{file.name}",
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
    link = f"../../files/{file.name}#sha256={digest}"
    return f'<a href="{link}" data-requires-python="&gt;=3.8">{file.name}</a><br>\n'
