"""What the server tells of itself: probes, metrics, when the index was synchronised."""

import msgspec
from aiohttp import web

from pywharf.core.access import Permission
from pywharf.core.errors import PywharfError
from pywharf.web.auth import INSTANCE, authorize
from pywharf.web.metrics import CONTENT_TYPE
from pywharf.web.running import RunningRequests

RUNNING: web.AppKey[RunningRequests] = web.AppKey("running", RunningRequests)


async def healthz(request: web.Request) -> web.Response:
    """GET /healthz: the process answers."""
    del request
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """GET /readyz: 200 once each repo's index was looked at, until the server is told to stop.

    A repo whose storage fails does not make the server unready, since the others are served.
    """
    instance = request.app[INSTANCE]
    waiting = 0
    failing = len(instance.broken)
    for repository in instance.repositories:
        if repository.follower.failure is not None:
            failing += 1
            continue
        try:
            repository.follower.catalog  # noqa: B018 - raises while it is not loaded
        except PywharfError:
            waiting += 1
    ready = bool(instance.digest) and not waiting and not request.app[RUNNING].ending
    body = {
        "ready": ready,
        "repos": len(instance.repositories) + len(instance.broken),
        "loading": waiting,
        "failing": failing,
        "config": instance.digest,
    }
    return web.Response(
        status=200 if ready else 503, body=msgspec.json.encode(body) + b"\n", content_type="application/json"
    )


async def metrics(request: web.Request) -> web.Response:
    """GET /metrics."""
    instance = request.app[INSTANCE]
    instance.observe()
    return web.Response(body=instance.metrics.render(), headers={"Content-Type": CONTENT_TYPE})


async def index_mtime(request: web.Request) -> web.Response:
    """GET /index_mtime/: Unix seconds, as text."""
    repository = await authorize(request, Permission.READ)
    return web.Response(
        text=str(repository.follower.index_mtime),
        headers={"Cache-Control": "private, no-store", "Vary": "Authorization, Cookie, Accept"},
    )
