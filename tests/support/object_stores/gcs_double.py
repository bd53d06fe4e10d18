"""A double of Google Cloud Storage's XML API, as far as obstore uses it, with its preconditions on generations.

No emulator was found that answers these calls, so this one is what the contract suite runs on. It checks no signature.
"""

import asyncio
import contextlib
import hashlib
import itertools
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote
from xml.sax.saxutils import escape

from aiohttp import web

from support.object_stores.store import ObjectStore

BUCKET = "packages"
_PAGE = 1000


@dataclass(frozen=True)
class _Object:
    content: bytes
    generation: int
    written: float

    @property
    def headers(self) -> dict[str, str]:
        return {
            "ETag": f'"{hashlib.md5(self.content, usedforsecurity=False).hexdigest()}-{self.generation}"',
            "Last-Modified": formatdate(self.written, usegmt=True),
            "x-goog-generation": str(self.generation),
        }


class GcsDouble:
    """The objects of one bucket, in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, _Object] = {}
        self._uploads: dict[str, dict[int, bytes]] = {}
        self._generations = itertools.count(1_700_000_000_000_000)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{bucket}/{key:.*}", self.handle)
        app.router.add_route("*", "/{bucket}", self.handle)
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:  # noqa: PLR0911 - a line a kind of call
        if request.match_info["bucket"] != BUCKET:
            return _error(404, "NoSuchBucket")
        key = request.match_info.get("key", "")
        if not key:
            return self._list(request)
        match request.method:
            case "GET" | "HEAD":
                return self._get(request, key)
            case "PUT" if "uploadId" in request.query:
                return await self._put_part(request)
            case "PUT":
                return await self._put(request, key)
            case "POST":
                return await self._multipart(request, key)
            case "DELETE":
                if "uploadId" in request.query:
                    self._uploads.pop(request.query["uploadId"], None)
                    return web.Response(status=204)
                return web.Response(status=204) if self.objects.pop(key, None) else _error(404, "NoSuchKey")
        return _error(405, "MethodNotAllowed")

    def _list(self, request: web.Request) -> web.Response:
        query = request.query
        after = query.get("continuation-token") or query.get("start-after") or ""
        keys = sorted(key for key in self.objects if key.startswith(query.get("prefix", "")) and key > after)
        page = keys[:_PAGE]
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(one.content)}</Size><ETag>{escape(one.headers['ETag'])}</ETag>"
            f"<Generation>{one.generation}</Generation><LastModified>{_iso(one.written)}</LastModified></Contents>"
            for key, one in ((key, self.objects[key]) for key in page)
        )
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if len(keys) > len(page) else ""
        return web.Response(
            text=f"<ListBucketResult>{contents}{more}</ListBucketResult>", content_type="application/xml"
        )

    def _get(self, request: web.Request, key: str) -> web.Response:
        found = self.objects.get(key)
        if found is None:
            return _error(404, "NoSuchKey")
        if request.headers.get("If-None-Match") == found.headers["ETag"]:
            return web.Response(status=304, headers=found.headers)
        asked = request.http_range
        headers, content, status = found.headers, found.content, 200
        if asked.start is not None:
            stop = len(content) if asked.stop is None else min(asked.stop, len(content))
            headers["Content-Range"] = f"bytes {asked.start}-{stop - 1}/{len(content)}"
            content, status = content[asked.start : stop], 206
        headers["Content-Length"] = str(len(content))  # aiohttp leaves that of an empty answer to HEAD out
        return web.Response(status=status, headers=headers, body=content)

    async def _put(self, request: web.Request, key: str) -> web.Response:
        content = await request.read()
        if (source := request.headers.get("x-goog-copy-source")) is not None:
            copied = self.objects.get(unquote(source).removeprefix("/").removeprefix(f"{BUCKET}/"))
            if copied is None:
                return _error(404, "NoSuchKey")
            content = copied.content
        wanted = request.headers.get("x-goog-if-generation-match")
        current = self.objects.get(key)
        if wanted is not None and int(wanted) != (current.generation if current is not None else 0):
            return _error(412, "PreconditionFailed")
        return self._store(key, content)

    def _store(self, key: str, content: bytes) -> web.Response:
        made = self.objects[key] = _Object(content, next(self._generations), time.time())
        text = f"<CopyObjectResult><ETag>{escape(made.headers['ETag'])}</ETag></CopyObjectResult>"
        return web.Response(headers=made.headers, text=text, content_type="application/xml")

    async def _put_part(self, request: web.Request) -> web.Response:
        number = int(request.query["partNumber"])
        self._uploads[request.query["uploadId"]][number] = await request.read()
        return web.Response(headers={"ETag": f'"part-{number}"'})

    async def _multipart(self, request: web.Request, key: str) -> web.Response:
        await request.read()
        if "uploads" in request.query:
            upload = f"upload-{next(self._generations)}"
            self._uploads[upload] = {}
            text = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            return web.Response(text=text, content_type="application/xml")
        parts = self._uploads.pop(request.query["uploadId"])
        made = self._store(key, b"".join(parts[number] for number in sorted(parts)))
        etag = escape(made.headers["ETag"])
        text = f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
        return web.Response(headers={"x-goog-generation": made.headers["x-goog-generation"]}, text=text)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _error(status: int, code: str) -> web.Response:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>…</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


@contextlib.contextmanager
def running_gcs(folder: Path) -> Iterator[ObjectStore]:
    """Run the double in a thread within the context."""
    started = threading.Event()
    ports: list[int] = []
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        runner = web.AppRunner(GcsDouble().app(), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ended = asyncio.Event()
        ports.append(runner.addresses[0][1])
        stop.append((asyncio.get_running_loop(), ended))
        started.set()
        await ended.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(30)
    key = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    secret = {
        "type": "service_account",
        "client_email": "tests@example.iam.gserviceaccount.com",
        "private_key_id": "0123",
        "private_key": key,
    }
    yield ObjectStore("gcs", f"http://127.0.0.1:{ports[0]}", json.dumps(secret), {"bucket": BUCKET}, folder)
    loop, ended = stop[0]
    loop.call_soon_threadsafe(ended.set)
    thread.join(30)
