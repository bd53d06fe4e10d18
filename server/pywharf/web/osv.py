"""OSV's API over the server's own feed: POST /v1/query, POST /v1/querybatch, GET /v1/vulns/<id>.

It needs no secret, as OSV's needs none: the answers come from the feed alone, and no repo is asked.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Final, ParamSpec, TypeVar

from aiohttp import web

from pywharf.core.addresses import site
from pywharf.core.advisories.entry import is_identifier
from pywharf.core.advisories.store import BrokenStoreError
from pywharf.core.errors import NotFoundError, UnavailableError
from pywharf.index.advisory_queries import answer, answer_batch
from pywharf.web.client_address import client_address
from pywharf.web.forms import read_body
from pywharf.web.keys import ADVISORIES, ADVISORY_QUERIES, ADVISORY_TURN

P = ParamSpec("P")
T = TypeVar("T")

_MAX_QUERY_BYTES: Final = 16 * 1024
_MAX_BATCH_BYTES: Final = 256 * 1024
"""Bytes of a body. Clients send about 100 bytes for each query, and a batch has at most a thousand."""
_LONGEST_S: Final = 30.0
_HEADERS: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}
_STEP_S: Final = 0.005
"""Seconds of a processor for a batch before others are served."""


async def query(request: web.Request) -> web.StreamResponse:
    """Answer POST /v1/query: the whole entries about a package, or about one version of it."""
    with request.app[ADVISORY_QUERIES].one(site(client_address(request))):
        body = await read_body(request, _MAX_QUERY_BYTES, _LONGEST_S)
        pieces = answer(request.app[ADVISORIES].entries(), body)
        first = await _in_turn(request, next, pieces, b"")
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        while first:
            await response.write(first)
            first = await _in_turn(request, next, pieces, b"")
        await response.write_eof()
        return response


async def query_batch(request: web.Request) -> web.Response:
    """Answer POST /v1/querybatch: identifier and time of change of each entry, for each query."""
    with request.app[ADVISORY_QUERIES].one(site(client_address(request))):
        body = await read_body(request, _MAX_BATCH_BYTES, _LONGEST_S)
        pieces = answer_batch(request.app[ADVISORIES].entries(), body)
        found = []
        while some := await _in_turn(request, _some, pieces):
            found.append(some)
        return web.Response(body=b"".join(found), headers=_HEADERS)


async def entry(request: web.Request) -> web.Response:
    """Answer GET /v1/vulns/<id>: one entry as the feed has it."""
    identifier = request.match_info["id"]
    with request.app[ADVISORY_QUERIES].one(site(client_address(request))):
        store = request.app[ADVISORIES].entries()
        found = await _in_turn(request, store.entry, identifier) if is_identifier(identifier) else None
    if found is None:
        raise NotFoundError(f"The feed has no entry {identifier[:100]!r}.")
    return web.Response(body=found, headers=_HEADERS)


async def _in_turn(request: web.Request, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a call in a thread, one at a time, and pause as long as it took a processor. Raises UnavailableError.

    So all these calls together take at most half of a worker's time.
    """
    spent = 0.0

    def measured() -> T:
        nonlocal spent
        began = time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent = time.thread_time() - began

    async with request.app[ADVISORY_TURN]:
        try:
            return await asyncio.to_thread(measured)
        except (OSError, BrokenStoreError) as error:
            raise UnavailableError("The feed cannot be read from the server's disk; try again.") from error
        finally:
            await asyncio.sleep(spent)


def _some(pieces: Iterator[bytes]) -> bytes:
    """Return the pieces that can be made within a step; b"" after the last one."""
    found = bytearray()
    end = time.thread_time() + _STEP_S
    for piece in pieces:
        found += piece
        if time.thread_time() >= end:
            break
    return bytes(found)
