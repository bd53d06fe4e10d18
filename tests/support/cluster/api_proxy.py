"""A TLS proxy of the API server that forwards and records requests, and injects faults on demand.

Bearer tokens are forwarded; client certificates cannot be, so clients use tokens (`Cluster.kubeconfig_through`).
Rules match new requests; `inject`, `cut` and `hush` act on open watches.
"""

import asyncio
import contextlib
import re
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, assert_never

import aiohttp
import yarl
from aiohttp import web

from support.background import in_background
from support.certificates import certificates
from support.cluster.api_faults import (
    Answer,
    Call,
    Delay,
    Drop,
    Fault,
    Pass,
    Rule,
    Silence,
    WatchError,
    error_event,
    status_object,
)

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}
_MAX_BODY = 64 * 1024 * 1024
_JSON = "application/json"


@dataclass(eq=False)
class _Watch:
    """An open watch."""

    path: str
    orders: "asyncio.Queue[bytes | None]" = field(default_factory=asyncio.Queue)
    """Final bytes to send before the watch ends, or None to break the connection."""
    hushed: asyncio.Event = field(default_factory=asyncio.Event)


class ApiProxy:
    """The proxy, thread-safe. Clients connect with `url` and `ca_file`."""

    def __init__(self, target: str, context: ssl.SSLContext, folder: Path) -> None:
        self.url = ""
        self.made = certificates(folder)
        self.ca_file = self.made.authority
        self._target = target
        self._context = context
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._calls: list[Call] = []
        self._watches: set[_Watch] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    # Methods for tests

    def add(
        self,
        fault: Fault,
        *,
        method: str | None = None,
        path: str = "",
        watch: bool | None = None,
        times: int | None = None,
        on_hit: Callable[[], None] = lambda: None,
    ) -> Rule:
        """Add a rule for new requests. The newest matching rule applies. `path` is a regular expression to search for.

        `on_hit` is called in the proxy's thread before anything is forwarded, or after that for Drop(after_forwarding).
        A client may retry a dropped request by itself, which is another hit.
        """
        rule = Rule(fault, method, re.compile(path), watch, times, on_hit)
        with self._lock:
            self._rules.insert(0, rule)
        return rule

    def remove(self, rule: Rule) -> None:
        with self._lock, contextlib.suppress(ValueError):
            self._rules.remove(rule)

    def clear(self) -> None:
        """Remove all rules; silent watches stay silent until they are cut."""
        with self._lock:
            self._rules.clear()

    @contextlib.contextmanager
    def down(self) -> Iterator[Rule]:
        """Simulate an outage of the API server: open watches break and requests get no response."""
        rule = self.add(Drop())
        self.cut()
        try:
            yield rule
        finally:
            self.remove(rule)

    def calls(self, *, method: str | None = None, path: str = "", since: float = 0.0) -> list[Call]:
        """Return the matching requests, oldest first; `since` is a monotonic time in seconds."""
        with self._lock:
            found = sorted(self._calls, key=lambda call: call.at)
        return [
            call
            for call in found
            if method in {None, call.method} and call.at >= since and re.search(path, call.path) is not None
        ]

    def writes(self, *, path: str = "", since: float = 0.0) -> list[Call]:
        return [call for call in self.calls(path=path, since=since) if call.is_write]

    def forget(self) -> None:
        """Forget all recorded requests."""
        with self._lock:
            self._calls.clear()

    def watches(self, path: str = "") -> int:
        """Return the number of open watches."""
        return len(self._open(path))

    def inject(self, code: int, path: str = "") -> int:
        """Send an ERROR event into each open watch, which then ends; returns the number of watches."""
        return self._order(path, error_event(code))

    def cut(self, path: str = "") -> int:
        """Break the connection of each open watch; returns the number of watches."""
        return self._order(path, None)

    def hush(self, path: str = "") -> int:
        """Silence each open watch; returns the number of watches."""
        found = self._open(path)
        assert self._loop is not None
        for watch in found:
            self._loop.call_soon_threadsafe(watch.hushed.set)
        return len(found)

    def _open(self, path: str) -> list[_Watch]:
        with self._lock:
            return [watch for watch in self._watches if re.search(path, watch.path)]

    def _order(self, path: str, order: bytes | None) -> int:
        found = self._open(path)
        assert self._loop is not None
        for watch in found:
            self._loop.call_soon_threadsafe(watch.orders.put_nowait, order)
        return len(found)

    # Implementation

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Forward requests within the context, on a free port."""
        self._loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._context, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers={"User-Agent", "Accept", "Accept-Encoding", "Content-Type"},
        ) as session:
            app = web.Application(client_max_size=_MAX_BODY)

            async def handle(request: web.Request) -> web.StreamResponse:
                return await self._handle(request, session)

            app.router.add_route("*", "/{path:.*}", handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0, handler_cancellation=True)
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.made.server_context()).start()
                self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
                yield
            finally:
                await runner.cleanup()

    async def _handle(self, request: web.Request, session: aiohttp.ClientSession) -> web.StreamResponse:
        asked = _Asked(request, session, watch=request.query.get("watch") in {"1", "true"})
        rule = self._matching(asked)
        fault = rule.fault if rule else Pass()
        if rule and not (isinstance(fault, Drop) and fault.after_forwarding):
            rule.on_hit()
        match fault:
            case Pass():
                return await self._pass_on(asked, None if rule is None else fault)
            case Delay(seconds):
                await asyncio.sleep(seconds)
                return await self._pass_on(asked, fault)
            case Drop():
                return await self._drop(asked, fault, rule)
            case Answer(code, retry_after_s):
                self._note(asked, code, fault)
                headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
                return web.json_response(status_object(code), status=code, headers=headers)
            case WatchError(code):
                self._note(asked, 200, fault)
                return await self._stream(asked, None, error_event(code))
            case Silence():
                self._note(asked, 200 if asked.watch else None, fault)
                return await self._stream(asked, None) if asked.watch else await _forever()
            case _:
                assert_never(fault)

    async def _drop(self, asked: "_Asked", fault: Drop, rule: Rule | None) -> web.StreamResponse:
        if fault.after_forwarding and rule:
            async with self._upstream(asked) as answer:
                if not asked.watch:
                    await answer.read()
            rule.on_hit()
        self._note(asked, None, fault)
        return _broken(asked.request)

    def _matching(self, asked: "_Asked") -> Rule | None:
        with self._lock:
            for rule in self._rules:
                if rule.takes(asked.request.method, asked.request.path, watch=asked.watch):
                    rule.hits += 1
                    rule.left = None if rule.left is None else rule.left - 1
                    return rule
        return None

    async def _pass_on(self, asked: "_Asked", fault: Fault | None) -> web.StreamResponse:
        try:
            async with self._upstream(asked) as answer:
                if asked.watch and answer.status == web.HTTPOk.status_code:
                    self._note(asked, answer.status, fault)
                    return await self._stream(asked, answer)
                content = await answer.read()
        except aiohttp.ClientError:  # the API server broke the connection, so break the client's too
            self._note(asked, None, fault)
            return _broken(asked.request)
        self._note(asked, answer.status, fault)
        return web.Response(status=answer.status, reason=answer.reason, headers=_kept(answer.headers), body=content)

    @contextlib.asynccontextmanager
    async def _upstream(self, asked: "_Asked") -> AsyncIterator[aiohttp.ClientResponse]:
        request = asked.request
        url = yarl.URL(self._target + request.raw_path, encoded=True)
        headers = _kept(request.headers)
        body = await request.read() or None
        async with asked.session.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as answer:
            yield answer

    async def _stream(
        self, asked: "_Asked", answer: aiohttp.ClientResponse | None, last_words: bytes | None = None
    ) -> web.StreamResponse:
        """Stream a watch: copy whole lines of the API server's until the watch ends or an order ends it."""
        response = web.StreamResponse(headers={"Content-Type": _JSON} if answer is None else _kept(answer.headers))
        await response.prepare(asked.request)
        if last_words is not None:
            await response.write(last_words)
            return response
        watch = _Watch(asked.request.path)
        with self._lock:
            self._watches.add(watch)
        ordered = asyncio.ensure_future(watch.orders.get())
        copied = asyncio.ensure_future(_copy(answer, response, watch))
        try:
            await asyncio.wait({ordered, copied}, return_when=asyncio.FIRST_COMPLETED)
            if not ordered.done():
                with contextlib.suppress(aiohttp.ClientError):
                    await copied
                    return response
                return _broken(asked.request, response)
            order = ordered.result()
            if order is None:
                return _broken(asked.request, response)
            await response.write(order)
            return response
        finally:
            with self._lock:
                self._watches.discard(watch)
            for task in (ordered, copied):
                task.cancel()
            await asyncio.gather(ordered, copied, return_exceptions=True)

    def _note(self, asked: "_Asked", status: int | None, fault: Fault | None) -> None:
        request = asked.request
        call = Call(
            request.method,
            request.path,
            dict(request.query),
            asked.watch,
            request.headers.get("User-Agent", ""),
            request.headers.get("Content-Type", ""),
            asked.at,
            status,
            fault,
        )
        with self._lock:
            self._calls.append(call)


@dataclass(frozen=True)
class _Asked:
    request: web.Request
    session: aiohttp.ClientSession
    watch: bool
    at: float = field(default_factory=time.monotonic)


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}


def _broken(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    """Reset the connection; the returned response is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return response or web.Response()


async def _forever() -> NoReturn:
    """Wait until cancelled."""
    while True:
        await asyncio.Event().wait()


async def _copy(answer: aiohttp.ClientResponse | None, response: web.StreamResponse, watch: _Watch) -> None:
    """Copy a watch line by line, so that other lines can be inserted. Formats other than JSON are copied unchanged."""
    by_lines = answer is not None and answer.content_type == _JSON
    rest = b""
    while answer is not None and (chunk := await answer.content.readany()):
        if watch.hushed.is_set():
            break
        whole, end, part = (rest + chunk).rpartition(b"\n") if by_lines else (chunk, b"", b"")
        rest = part
        if whole:
            await response.write(whole + end)
    if answer is None or watch.hushed.is_set():
        await _forever()


@contextlib.contextmanager
def proxied(target: str, ca_file: Path, folder: Path) -> Iterator[ApiProxy]:
    """Run a proxy in front of `target` (no trailing slash) in a thread; its certificates are written to `folder`."""
    proxy = ApiProxy(target, ssl.create_default_context(cafile=str(ca_file)), folder)
    with in_background(proxy.serving(), "api-proxy"):
        yield proxy
