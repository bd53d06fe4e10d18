"""A server of cached files alone: the real cache, HTTP client and responses, without repos and credentials."""

import contextlib
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from pywharf.core.errors import PywharfError
from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.egress.policy import Egress
from pywharf.egress.upstream_files import UpstreamFiles
from pywharf.index.ports import CacheStore
from pywharf.index.upstream.file_fetching import FetchResult, PassReason
from pywharf.index.upstream.kept_files import KeptFiles
from pywharf.index.upstream.scopes import Scopes
from pywharf.index.upstream.source import Source, SourceCredentials
from pywharf.web.file_response import send
from support.server.file_upstream import FileUpstream, Offered

ACME = ProjectName("acme")
MOST_BYTES = 1024 * 1024 * 1024


@dataclass
class Counted:
    """Counts in memory."""

    hits: int = 0
    misses: int = 0
    fetches: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)
    upstream_bytes: int = 0

    def found(self, size: int) -> None:
        assert size >= 0
        self.hits += 1

    def missed(self) -> None:
        self.misses += 1

    def fetched(self, result: FetchResult, size: int) -> None:
        self.fetches[result] += 1
        self.upstream_bytes += size

    def passed_through(self, reason: PassReason) -> None:
        self.passed[reason] += 1


class CachedFiles:
    """A running server. `url` is its root; `offer` a file to it and to the other index."""

    def __init__(self, upstream: FileUpstream, files: KeptFiles, counted: Counted) -> None:
        self.url = ""
        self.upstream = upstream
        self.kept = files
        self.counted = counted
        self.max_bytes = MOST_BYTES
        self.credentials: SourceCredentials | None = None
        self.records: dict[str, File] = {}

    @property
    def source(self) -> Source:
        """The other index, as a repo's configuration names it."""
        return Source(url=self.upstream.url, credentials=self.credentials)

    def offer(self, name: str, offered: Offered, **changes: object) -> File:
        """Let the other index have a file, and its page list it: as it is, but for `changes` of the record."""
        self.upstream.offered[name] = offered
        record: dict[str, object] = {
            "filename": name,
            "sha256": hashlib.sha256(offered.content).hexdigest(),
            "size": len(offered.content),
            "location": self.upstream.address(name),
        }
        file = self.records[name] = File(**{**record, **changes})  # type: ignore[arg-type]
        return file

    async def keep(self, name: str) -> None:
        """Keep a file, as for a pin."""
        await self.kept.keep(self.source, ACME, self.records[name], max_bytes=self.max_bytes)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer as a server does for a file that a client may have."""
        file = await self.kept.known(self.source, ACME, self.records[request.match_info["name"]])
        headers = {"ETag": f'"{file.sha256}"', "Accept-Ranges": "bytes"}
        try:
            content = await self.kept.open(self.source, ACME, file, max_bytes=self.max_bytes)
            return await send(request, content, file, headers)
        except PywharfError as error:
            if request.writer.output_size:
                assert request.transport is not None
                request.transport.abort()
                raise ConnectionAbortedError from error
            return web.Response(status=error.status, text=str(error))


@contextlib.asynccontextmanager
async def cached_files(
    upstream: FileUpstream,
    store: CacheStore,
    *,
    max_spool_bytes: int = MOST_BYTES,
    allowed: tuple[str, ...] | None = None,
    finishing: contextlib.AbstractContextManager[object] | None = None,
) -> AsyncIterator[CachedFiles]:
    """Serve within the context, on a free port. Several may share a store's folder, as replicas do."""
    counted = Counted()
    async with (
        UpstreamFiles("pywharf/test", Egress(allowed)) as client,
        KeptFiles(
            store, client, counted, scopes=Scopes(), max_spool_bytes=max_spool_bytes, finishing=finishing
        ) as files,
    ):
        server = CachedFiles(upstream, files, counted)
        app = web.Application()
        app.router.add_get("/{name}", server.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield server
        finally:
            await runner.cleanup()


@dataclass(frozen=True)
class Got:
    """A response. `whole`: whether its body came to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool


async def get(session: aiohttp.ClientSession, url: str, method: str = "GET", **headers: str) -> Got:
    """Send a request, and return as much of the response as comes."""
    async with session.request(method, url, headers=headers) as response:
        body = bytearray()
        whole = True
        try:
            async for chunk in response.content.iter_any():
                body += chunk
        except aiohttp.ClientError:
            whole = False
        return Got(response.status, response.headers, bytes(body), whole)
