"""Hostile clients of one server in a separate process: `python -m support.server.hostile_clients URL SECONDS`.

They know only the secrets of the repo `noisy`. Each kind repeats at a bounded rate, so that the cost of a request to
the server matters, not the number of requests. All traffic goes to the given URL, which must be on loopback.
"""

import asyncio
import base64
import contextlib
import io
import itertools
import json
import sys
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

NAME = "noisy"
IDLE = 300
UNFINISHED = 8
FIELD_BYTES = 16 * 1024 * 1024
_WAIT_S = 20.0
_BOUNDARY = b"hostile-boundary"
_LOGIN = "POST", "/login"
_UPLOAD = "POST", f"/repo/{NAME}/simple/"


class Hostile:
    """The clients. Each method repeats one kind of load until it is cancelled; `statuses` counts the responses."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._numbers = itertools.count()
        self.statuses: Counter[str] = Counter()

    async def part_headers(self) -> None:
        """Log in with forms whose part headers trigger a quadratic pattern."""
        name = b"*=" * 4000
        part = b"--%b\r\nContent-Disposition: form-data; name=%b\r\n\r\n\r\n" % (_BOUNDARY, b'"' + name + b'"')
        await self._repeat("part headers", 1.0, lambda: self._ask(*_LOGIN, _form(part * 99)))

    async def empty_parts(self) -> None:
        """Log in with a form of very many parts."""
        part = b"--%b\r\n\r\n\r\n" % _BOUNDARY
        await self._repeat("empty parts", 1.0, lambda: self._ask(*_LOGIN, _form(part * 50_000)))

    async def guesses(self) -> None:
        """Try secrets of every repo, known and unknown."""

        def guess() -> Awaitable[int]:
            number = next(self._numbers)
            repo = ("demo", "slow-0", "unknown")[number % 3]
            return self._ask("GET", f"/repo/{repo}/simple/", auth=f"{repo}:guess-{number}")

        await self._repeat("guesses", 0.1, guess)

    async def long_fields(self) -> None:
        """Publish with a field of 16 MiB."""
        part = b'--%b\r\nContent-Disposition: form-data; name="version"\r\n\r\n%b\r\n'
        body = _form(part % (_BOUNDARY, b"1." * (FIELD_BYTES // 2)))
        await self._repeat("long fields", 2.0, lambda: self._ask(*_UPLOAD, body, auth=f"{NAME}:{NAME}-write"))

    async def metadata_bombs(self) -> None:
        """Publish small wheels whose metadata unpacks to megabytes."""

        def bomb() -> Awaitable[int]:
            filename, content = _bomb(next(self._numbers))
            disposition = f'form-data; name="content"; filename="{filename}"'.encode()
            part = b"--%b\r\nContent-Disposition: %b\r\n\r\n%b\r\n" % (_BOUNDARY, disposition, content)
            return self._ask(*_UPLOAD, _form(part), auth=f"{NAME}:{NAME}-write")

        await self._repeat("metadata bombs", 2.0, bomb)

    async def unfinished_uploads(self) -> None:
        """Hold uploads open that have large fields and never end."""
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(UNFINISHED):
                with contextlib.suppress(OSError):
                    writer = await stack.enter_async_context(self._connected())
                    writer.write(_head(*_UPLOAD, 2 * FIELD_BYTES * 8, auth=f"{NAME}:{NAME}-write"))
                    for name in ("version", "name", "metadata_version", "summary"):
                        part = f'--{_BOUNDARY.decode()}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
                        writer.write(part.encode())
                        for _ in range(FIELD_BYTES // 65536):
                            writer.write(b"1" * 65536)
                            await asyncio.wait_for(writer.drain(), _WAIT_S)
                        writer.write(b"\r\n")
                    self.statuses["unfinished uploads: sent"] += 1
            await asyncio.Event().wait()

    async def idle_connections(self) -> None:
        """Open connections and send nothing; reopen those that are closed."""

        async def idle() -> None:
            while True:
                with contextlib.suppress(OSError):
                    async with self._connected() as writer:
                        self.statuses["idle: opened"] += 1
                        await writer.wait_closed()
                await asyncio.sleep(1.0)

        await asyncio.gather(*(idle() for _ in range(IDLE)))

    async def _repeat(self, what: str, pause_s: float, ask: Callable[[], Awaitable[int]]) -> None:
        while True:
            try:
                status = str(await asyncio.wait_for(ask(), _WAIT_S))
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                status = type(error).__name__
            self.statuses[f"{what}: {status}"] += 1
            await asyncio.sleep(pause_s)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self._address)
        draining = asyncio.create_task(reader.read())
        try:
            yield writer
        finally:
            draining.cancel()
            writer.close()

    async def _ask(self, method: str, path: str, body: bytes = b"", auth: str = "") -> int:
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            writer.write(_head(method, path, len(body), auth))
            with contextlib.suppress(ConnectionError):  # the response may arrive before the body is sent
                writer.write(body)
                await writer.drain()
            line = (await reader.readline()).split()
            with contextlib.suppress(ConnectionError):
                await reader.read()
        finally:
            writer.close()
        if len(line) < 2:
            raise EOFError
        return int(line[1])


def _head(method: str, path: str, length: int, auth: str = "") -> bytes:
    headers = [f"{method} {path} HTTP/1.1", "Host: server", "Connection: close", f"Content-Length: {length}"]
    headers.append(f"Content-Type: multipart/form-data; boundary={_BOUNDARY.decode()}")
    if auth:
        headers.append("Authorization: Basic " + base64.b64encode(auth.encode()).decode())
    return "\r\n".join([*headers, "", ""]).encode()


def _form(parts: bytes) -> bytes:
    return parts + b"--%b--\r\n" % _BOUNDARY


def _bomb(number: int) -> tuple[str, bytes]:
    """Return a file name and a wheel of some KB whose Requires-Python is 4 MB long."""
    packed, version, folder = io.BytesIO(), f"{number}.0", f"bomb-{number}.0.dist-info"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as wheel:
        python = ">=1" + ".1" * 2_000_000
        metadata = f"Metadata-Version: 2.1\nName: bomb\nVersion: {version}\nRequires-Python: {python}\n"
        wheel.writestr(f"{folder}/METADATA", metadata)
        wheel.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\n")
        wheel.writestr(f"{folder}/RECORD", f"{folder}/METADATA,,\n{folder}/WHEEL,,\n{folder}/RECORD,,\n")
    return f"bomb-{version}-py3-none-any.whl", packed.getvalue()


async def _play(url: str, seconds: float) -> Counter[str]:
    parts = urlsplit(url)
    if parts.hostname != "127.0.0.1" or parts.port is None:
        msg = f"hostile clients go to 127.0.0.1 alone, not to {url!r}"
        raise ValueError(msg)
    hostile = Hostile(parts.hostname, parts.port)
    kinds = (
        hostile.part_headers,
        hostile.empty_parts,
        hostile.guesses,
        hostile.long_fields,
        hostile.metadata_bombs,
        hostile.unfinished_uploads,
        hostile.idle_connections,
    )
    tasks = [asyncio.create_task(kind()) for kind in kinds]
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()  # none of them ends by itself
    return hostile.statuses


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_play(sys.argv[1], float(sys.argv[2])))) + "\n")
