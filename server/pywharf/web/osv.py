"""OSV's API over the server's own feed: POST /v1/query, POST /v1/querybatch, GET /v1/vulns/<id>.

It needs no secret, as OSV's needs none: the answers come from the feed alone, and no repo is asked.
"""

import asyncio
import time
from typing import Final

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

_MAX_BYTES: Final = 1024 * 1024
"""Bytes of a body: a batch of the most queries has some hundred kilobytes."""
_LONGEST_S: Final = 30.0
_STEP_S: Final = 0.005
"""Seconds of work on a batch before as long a pause: so all these calls take at most half of a worker's time."""


async def query(request: web.Request) -> web.Response:
    """Answer POST /v1/query: the whole entries about a package, or about one version of it."""
    with request.app[ADVISORY_QUERIES].one(site(request.remote or "")):
        asked = parse_query(await read_body(request, _MAX_BYTES, _LONGEST_S))
        store = request.app[ADVISORIES].entries()
        async with request.app[ADVISORY_TURN]:
            return _answer(await _in_thread(store, asked))


async def query_batch(request: web.Request) -> web.Response:
    """Answer POST /v1/querybatch: identifier and time of change of each entry, for each query."""
    with request.app[ADVISORY_QUERIES].one(site(request.remote or "")):
        asked = parse_batch(await read_body(request, _MAX_BYTES, _LONGEST_S))
        store = request.app[ADVISORIES].entries()
        async with request.app[ADVISORY_TURN]:
            return _answer(await _batch(store, asked))


async def entry(request: web.Request) -> web.Response:
    """Answer GET /v1/vulns/<id>: one entry as the feed has it."""
    identifier = request.match_info["id"]
    with request.app[ADVISORY_QUERIES].one(site(request.remote or "")):
        store = request.app[ADVISORIES].entries()
        found = None
        if is_identifier(identifier):
            async with request.app[ADVISORY_TURN]:
                try:
                    found = await asyncio.to_thread(store.entry, identifier)
                except (OSError, BrokenStoreError) as error:
                    raise _unreadable() from error
    if found is None:
        raise NotFoundError(f"The feed has no entry {identifier[:100]!r}.")
    return _answer(found)


async def _in_thread(store: AdvisoryStore, asked: Query) -> bytes:
    try:
        return await asyncio.to_thread(lambda: whole_page(store, identifiers(store, asked)))
    except (OSError, BrokenStoreError) as error:
        raise _unreadable() from error


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


def _answer(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})


def _unreadable() -> UnavailableError:
    return UnavailableError("The feed of advisories cannot be read from the server's disk; try again.")
