"""Files of another index on loopback, which come whole, slowly, wrongly or never, as a test needs."""

import asyncio
import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web

How = Literal["whole", "cut", "hang", "gated", "endless"]
_JSON = "application/vnd.pypi.simple.v1+json"
_PIECE = 256 * 1024


@dataclass
class Offered:
    """One address.

    `how`: whole; cut (half of the content, then the connection ends); hang (no byte is ever sent); gated (half of the
    content, then the rest once `gate` is set); endless (the content again and again, without a size).
    """

    content: bytes = b""
    how: How = "whole"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    announced: bool = True
    """Whether the response has a Content-Length."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)


class FileUpstream:
    """A running index of files. `url` is its Simple index; files are at `address(name)`."""

    def __init__(self) -> None:
        self.url = ""
        self.offered: dict[str, Offered] = {}
        self.asked: Counter[str] = Counter()
        """Requests by name."""
        self.open = 0
        """Requests that are being answered."""
        self.headers: list[Mapping[str, str]] = []
        self._pages: dict[str, object] = {}

    def address(self, name: str) -> str:
        """Return the address of a file."""
        return self.url.replace("/simple/", f"/files/{name}")

    def offer(self, project: str, name: str, offered: Offered) -> None:
        """Let the index have a project with one file, and a page that is true of it as it is now."""
        self.offered[name] = offered
        entry = {
            "filename": name,
            "url": self.address(name),
            "hashes": {"sha256": hashlib.sha256(offered.content).hexdigest()},
            "size": len(offered.content),
        }
        self._pages[project] = {"meta": {"api-version": "1.1"}, "name": project, "files": [entry]}

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve within the context, on a free port."""
        app = web.Application()
        app.router.add_get("/files/{name}", self._file)
        app.router.add_get("/simple/{project}/", self._page)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/simple/"
            yield
        finally:
            await runner.cleanup()

    async def _page(self, request: web.Request) -> web.StreamResponse:
        page = self._pages.get(request.match_info["project"])
        if page is None:
            raise web.HTTPNotFound
        return web.Response(body=json.dumps(page).encode(), content_type=_JSON)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        self.asked[name] += 1
        self.headers.append(dict(request.headers))
        self.open += 1
        try:
            return await self._answer(request, self.offered.get(name, Offered(status=404)))
        finally:
            self.open -= 1

    async def _answer(self, request: web.Request, offered: Offered) -> web.StreamResponse:
        if offered.how == "hang":
            await asyncio.Event().wait()
        response = web.StreamResponse(status=offered.status, headers=offered.headers)
        if offered.announced and offered.how != "endless":
            response.content_length = len(offered.content)
        await response.prepare(request)
        half = len(offered.content) // 2
        match offered.how:
            case "cut":
                await response.write(offered.content[:half])
                assert request.transport is not None
                request.transport.close()
            case "gated":
                await response.write(offered.content[:half])
                await offered.gate.wait()
                await response.write(offered.content[half:])
            case "endless":
                while True:
                    await response.write(offered.content)
            case _:
                for start in range(0, len(offered.content), _PIECE):
                    await response.write(offered.content[start : start + _PIECE])
        await response.write_eof()
        return response
