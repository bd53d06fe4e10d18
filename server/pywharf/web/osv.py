"""OSV's API over the server's own feed: POST /v1/query, POST /v1/querybatch, GET /v1/vulns/<id>.

It needs no secret, as OSV's needs none: the answers come from the feed alone, and no repo is asked.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

import msgspec
from aiohttp import web

from pywharf.core.addresses import site
from pywharf.core.advisories.entry import is_identifier
from pywharf.core.advisories.store import AdvisoryStore, BrokenStoreError
from pywharf.core.errors import NotFoundError, UnavailableError
from pywharf.index.advisory_queries import (
    MAX_BATCH,
    Query,
    brief_page,
    identifiers,
    parse_batch,
    parse_query,
    whole_page,
)
from pywharf.web.forms import read_body
from pywharf.web.keys import ADVISORIES, ADVISORY_QUERIES, ADVISORY_TURN

P = ParamSpec("P")
T = TypeVar("T")

_MAX_BYTES: Final = 1024 * 1024
"""Bytes of a body: a batch of the most queries has some hundred kilobytes."""
_LONGEST_S: Final = 30.0
_HEADERS: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}
_STEP_S: Final = 0.005
"""Seconds of work on a batch before as long a pause: so all these calls take at most half of a worker's time."""


async def query(request: web.Request) -> web.StreamResponse:
    """Answer POST /v1/query: the whole entries about a package, or about one version of it."""
    with request.app[ADVISORY_QUERIES].one(site(request.remote or "")):
        asked = parse_query(await read_body(request, _MAX_BYTES, _LONGEST_S))
        store = request.app[ADVISORIES].entries()
        pieces = whole_page(store, identifiers(store, asked))
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
    with request.app[ADVISORY_QUERIES].one(site(request.remote or "")):
        asked = parse_batch(await read_body(request, _MAX_BYTES, _LONGEST_S))
        store = request.app[ADVISORIES].entries()
        async with request.app[ADVISORY_TURN]:
            return web.Response(body=await _batch(store, asked), headers=_HEADERS)


async def entry(request: web.Request) -> web.Response:
    """Answer GET /v1/vulns/<id>: one entry as the feed has it."""
    identifier = request.match_info["id"]
    with request.app[ADVISORY_QUERIES].one(site(request.remote or "")):
        store = request.app[ADVISORIES].entries()
        found = await _in_turn(request, store.entry, identifier) if is_identifier(identifier) else None
    if found is None:
        raise NotFoundError(f"The feed has no entry {identifier[:100]!r}.")
    return web.Response(body=found, headers=_HEADERS)


async def _in_turn(request: web.Request, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a call that reads the feed in a thread, one at a time. Raises UnavailableError."""
    async with request.app[ADVISORY_TURN]:
        try:
            return await asyncio.to_thread(function, *args, **kwargs)
        except (OSError, BrokenStoreError) as error:
            raise UnavailableError("The feed cannot be read from the server's disk; try again.") from error


async def _batch(store: AdvisoryStore, asked: list[Query]) -> bytes:
    known: dict[Query, list[str]] = {}
    results = []
    room = MAX_BATCH
    began = time.perf_counter()
    for one in asked:
        found = known.get(one)
        if found is None:
            found = known[one] = identifiers(store, one)
        page = brief_page(store, found, one.after, room)
        room -= len(page.get("vulns", ()))
        results.append(page)
        if (spent := time.perf_counter() - began) > _STEP_S:
            await asyncio.sleep(spent)
            began = time.perf_counter()
    return msgspec.json.encode({"results": results})
