"""What the server reports about itself: probes, metrics, when the index was synchronised."""

import msgspec
from aiohttp import web

from pywharf.core.access.permission import Permission
from pywharf.serving.metrics import CONTENT_TYPE
from pywharf.web.auth import authorize
from pywharf.web.keys import METRICS, REPOS, RUNNING


async def healthz(_request: web.Request) -> web.Response:
    """Answer GET /healthz: 200 as long as the process answers."""
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """Answer GET /readyz: 200 once each repo's index has been read, until the server begins to stop.

    A repo whose storage fails or hangs does not make the server unready, because the other repos are served.
    """
    repos = request.app[REPOS]
    ready = repos.is_ready() and not request.app[RUNNING].ending
    body = {
        "ready": ready,
        "repos": len(repos.repositories) + len(repos.broken),
        "loading": repos.loading(),
        "failing": repos.failing(),
        "config": repos.digest,
    }
    return web.Response(
        status=200 if ready else 503, body=msgspec.json.encode(body) + b"\n", content_type="application/json"
    )


async def metrics(request: web.Request) -> web.Response:
    """Answer GET /metrics."""
    request.app[REPOS].observe()
    return web.Response(body=request.app[METRICS].render(), headers={"Content-Type": CONTENT_TYPE})


async def index_mtime(request: web.Request) -> web.Response:
    """Answer GET /index_mtime/ with the repo's `index_mtime`: Unix seconds, as text."""
    access = await authorize(request, Permission.READ)
    return web.Response(
        text=str(access.repository.index_mtime()),
        headers={"Cache-Control": "private, no-store", "Vary": "Authorization, Cookie, Accept"},
    )
