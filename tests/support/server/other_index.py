"""A fake of another index, without a network: it is the fetcher of an ExtraIndex."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from pywharf.core.negotiation import PageFormat
from pywharf.index.upstream.extra_index import FetchedPage
from pywharf.index.upstream.source import SourceCredentials

URL = "http://127.0.0.1:1/simple/"
A = "a" * 64


class OtherIndex:
    """A fake of another index, with its pages by project, the URLs requested from it, and the fault it raises."""

    def __init__(self, url: str = URL) -> None:
        self.url = url
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.fault: Exception | None = None
        self.status = 200
        self.etags: dict[str, str] = {}
        self.serials: dict[str, int] = {}
        """By project, as are the entity tags."""
        self.conditions: list[str] = []
        """The entity tags that came with the requests."""
        self.credentials: list[SourceCredentials | None] = []
        self.answers = asyncio.Event()
        self.answers.set()

    def add(self, name: str, *filenames: str, sha256: str = A, **uploaded: str) -> None:
        """Offer files without an upload time, and wheels: `uploaded` holds the upload time of each version."""
        times: dict[str, str | None] = dict.fromkeys(filenames)
        times |= {f"{name}-{version}-py3-none-any.whl": time for version, time in uploaded.items()}
        files = [
            {"filename": f, "url": f"/files/{f}", "hashes": {"sha256": sha256}, "size": 1, "upload-time": time}
            for f, time in times.items()
        ]
        self.pages[name] = json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": files}).encode()

    @contextlib.asynccontextmanager
    async def fetch(
        self, url: str, accept: str, *, etag: str = "", credentials: SourceCredentials | None = None
    ) -> AsyncIterator[FetchedPage]:
        assert PageFormat.JSON.value in accept
        self.asked.append(url)
        self.conditions.append(etag)
        self.credentials.append(credentials)
        await self.answers.wait()
        if self.fault is not None:
            raise self.fault
        name = url.removeprefix(self.url).rstrip("/")
        page = self.pages.get(name)
        tag = self.etags.get(name, "")
        if page is None:
            yield FetchedPage(404, "text/html", b"", url)
        elif etag and etag == tag:
            yield FetchedPage(304, "", b"", url, etag=tag)
        else:
            yield FetchedPage(self.status, PageFormat.JSON.value, page, url, tag, self.serials.get(name))
