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

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.fault: Exception | None = None
        self.status = 200
        self.answers = asyncio.Event()
        self.answers.set()

    def add(self, name: str, *filenames: str, **uploaded: str) -> None:
        """Offer files without an upload time, and wheels: `uploaded` holds the upload time of each version."""
        times: dict[str, str | None] = dict.fromkeys(filenames)
        times |= {f"{name}-{version}-py3-none-any.whl": time for version, time in uploaded.items()}
        files = [
            {"filename": f, "url": f"/files/{f}", "hashes": {"sha256": A}, "size": 1, "upload-time": time}
            for f, time in times.items()
        ]
        self.pages[name] = json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": files}).encode()

    @contextlib.asynccontextmanager
    async def fetch(
        self, url: str, accept: str, *, etag: str = "", credentials: SourceCredentials | None = None
    ) -> AsyncIterator[FetchedPage]:
        assert PageFormat.JSON.value in accept
        self.asked.append(url)
        await self.answers.wait()
        if self.fault is not None:
            raise self.fault
        page = self.pages.get(url.removeprefix(URL).rstrip("/"))
        if page is None:
            yield FetchedPage(404, "text/html", b"", url)
        else:
            yield FetchedPage(self.status, PageFormat.JSON.value, page, url)
