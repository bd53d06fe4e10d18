"""What the server reports about itself: probes, metrics, when the index was synchronised."""

import msgspec
from aiohttp import web

from pywharf.core.access import Permission
from pywharf.serving.in_flight import RunningRequests
from pywharf.serving.metrics import CONTENT_TYPE
from pywharf.web.auth import INSTANCE, authorize

RUNNING: web.AppKey[RunningRequests] = web.AppKey("running", RunningRequests)


async def healthz(request: web.Request) -> web.Response:
    """Answer GET /healthz: 200 as long as the process answers."""
    del request
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """Answer GET /readyz: 200 once each repo's index has been read, until the server begins to stop.

    A repo whose storage fails or hangs does not make the server unready, because the other repos are served.
    """
    instance = request.app[INSTANCE]
    failing = len(instance.broken) + sum(one.follower.failure is not None for one in instance.repositories)
    ready = instance.is_ready() and not request.app[RUNNING].ending
    body = {
        "ready": ready,
        "repos": len(instance.repositories) + len(instance.broken),
        "loading": instance.loading(),
        "failing": failing,
        "config": instance.digest,
    }
    return web.Response(
        status=200 if ready else 503, body=msgspec.json.encode(body) + b"\n", content_type="application/json"
    )


async def metrics(request: web.Request) -> web.Response:
    """Answer GET /metrics."""
    instance = request.app[INSTANCE]
    instance.observe()
    return web.Response(body=instance.metrics.render(), headers={"Content-Type": CONTENT_TYPE})


async def index_mtime(request: web.Request) -> web.Response:
    """Answer GET /index_mtime/ with the follower's `index_mtime`: Unix seconds, as text."""
    repository = await authorize(request, Permission.READ)
    return web.Response(
        text=str(repository.follower.index_mtime),
        headers={"Cache-Control": "private, no-store", "Vary": "Authorization, Cookie, Accept"},
    )
