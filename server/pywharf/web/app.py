"""The application: its routes, and the middleware in which every request begins and ends."""

import asyncio
import logging
import time

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from pywharf import __version__
from pywharf.core.errors import BadRequestError, PywharfError, WithheldError
from pywharf.core.forwarded import TrustedProxies
from pywharf.index.advisories import CurrentAdvisories
from pywharf.serving.advisories.served_files import ServedFiles
from pywharf.serving.audit_log import AuditLog
from pywharf.serving.brake import Brake
from pywharf.serving.gatekeeper import Gatekeeper
from pywharf.serving.in_flight import RunningRequests
from pywharf.serving.metrics import Metrics
from pywharf.serving.repos import ServedRepos
from pywharf.serving.sessions import Sessions
from pywharf.serving.slots import Slots
from pywharf.serving.trusted_publishing.minting import Minting
from pywharf.web import changes, login, oidc, osv, pins, simple, status, unrouted, upload
from pywharf.web.access_log import AccessLog
from pywharf.web.connections import Working
from pywharf.web.cross_origin import allow_reading
from pywharf.web.expecting import is_waiting, leave_to_handler
from pywharf.web.forms import UNREADABLE_BODY, reason_of
from pywharf.web.initialize import Initializer
from pywharf.web.keys import (
    ADVISORIES,
    ADVISORY_QUERIES,
    ADVISORY_TURN,
    AUDIT_LOG,
    BRAKE,
    GATEKEEPER,
    LOGINS,
    METRICS,
    MINTING,
    MINTS,
    PINS,
    PROXY_USER,
    REPO,
    REPOS,
    RUNNING,
    SERVED_FILES,
    SESSIONS,
    TRUSTED_PROXIES,
    UPLOADS,
)
from pywharf.web.problems import nothing_at, problem
from pywharf.web.proxy_users import proxy_user
from pywharf.web.refusals import refused
from pywharf.web.transport import secure_transport

_logger = logging.getLogger(__name__)
_CLIENT_GONE = 499
_MAX_CONCURRENT_LOGINS = 32
_MAX_CONCURRENT_ADVISORY_QUERIES = 256
_MAX_CONCURRENT_MINTS = 64
_MAX_CONCURRENT_PINS = 64
_SERVER = f"pywharf/{__version__}"


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of one worker that handlers use."""

    repos: ServedRepos
    gatekeeper: Gatekeeper
    sessions: Sessions
    metrics: Metrics
    running: RunningRequests
    max_uploads: int
    """Uploads that are received concurrently."""
    advisories: CurrentAdvisories = msgspec.field(default_factory=CurrentAdvisories)
    served_files: ServedFiles | None = None
    """None on a server without a feed of advisories."""
    minting: Minting
    audit_log: AuditLog = msgspec.field(default_factory=AuditLog)
    brake: Brake = msgspec.field(default_factory=Brake)
    trusted_proxies: TrustedProxies = msgspec.field(default_factory=TrustedProxies)


def build_app(
    services: Services, initializer: Initializer, access_log: AccessLog, *, serves_metrics: bool = True
) -> web.Application:
    """Build one worker's application, without `/metrics` if its clients must not see the repos' names."""
    app = web.Application(middlewares=[_outermost(services.metrics, access_log, services.running)])
    app.on_response_prepare.append(_add_headers)
    app[REPOS], app[GATEKEEPER], app[SESSIONS] = services.repos, services.gatekeeper, services.sessions
    app[METRICS], app[RUNNING] = services.metrics, services.running
    app[AUDIT_LOG], app[BRAKE] = services.audit_log, services.brake
    app[TRUSTED_PROXIES] = services.trusted_proxies
    if services.trusted_proxies.name_people:
        app[PROXY_USER] = proxy_user
    app[UPLOADS] = Slots(services.max_uploads, "uploads")
    app[PINS] = Slots(_MAX_CONCURRENT_PINS, "changes of pins")
    app[LOGINS] = Slots(_MAX_CONCURRENT_LOGINS, "logins")
    app[MINTS] = Slots(_MAX_CONCURRENT_MINTS, "exchanges of tokens")
    app[MINTING] = services.minting
    app[ADVISORIES] = services.advisories
    if services.served_files is not None:
        app[SERVED_FILES] = services.served_files
        app[ADVISORY_QUERIES] = Slots(_MAX_CONCURRENT_ADVISORY_QUERIES, "queries of advisories")
        app[ADVISORY_TURN] = asyncio.Lock()
        _add(app, "osv", "POST", osv.query, "/v1/query")
        _add(app, "osv", "POST", osv.query_batch, "/v1/querybatch")
        _add(app, "osv", "GET", osv.entry, "/v1/vulns/{id}")
    _add(app, "start", "GET", login.start, "/")
    for prefix in ("", r"/repo/{repo}"):
        # The framework tries them in this order, so those that are asked for most come first.
        _add(app, "file", "GET", simple.file, prefix + r"/simple/{project}/{filename}")
        _add(app, "project", "GET", simple.project, prefix + r"/simple/{project}/")
        _add(app, "root", "GET", simple.root, f"{prefix}/simple/")
        _add(app, "root", "GET", simple.without_slash, f"{prefix}/simple")
        _add(app, "project", "GET", simple.without_slash, prefix + r"/simple/{project}")
        _add(app, "upload", "POST", upload.upload, f"{prefix}/simple/", f"{prefix}/simple")
    _add(app, "change", "POST", changes.change, changes.PATH)
    _add(app, "change", "GET", changes.only_post, changes.PATH)
    _add(app, "pins", "GET", pins.pins, pins.LIST)
    _add(app, "pin", "PUT", pins.pin, pins.PATH)
    _add(app, "pin", "DELETE", pins.unpin, pins.PATH)
    _add(app, "pin", "GET", pins.only_change, pins.PATH)
    # Only a repo's clients learn that an address does not exist; anybody else gets 401, as anywhere in a repo.
    _add(app, "none", "GET", simple.nothing, rf"/simple/{_REST}", "/repo/{repo}", rf"/repo/{{repo}}/{_REST}")
    _add(app, "login", "GET", login.form, "/login", "/login/")
    _add(app, "login", "POST", login.submit, "/login", "/login/")
    _add(app, "logout", "GET", login.logout, "/logout", "/logout/")
    _add(app, "oidc", "GET", oidc.give_audience, oidc.AUDIENCE)
    _add(app, "oidc", "POST", oidc.mint, oidc.MINT)
    _add(app, "oidc", "POST", oidc.burn, oidc.BURN)
    _add(app, "oidc", "GET", oidc.discover, oidc.DISCOVERY)
    _add(app, "index_mtime", "GET", status.index_mtime, "/index_mtime", "/index_mtime/")
    _add(app, "initialize", "POST", initializer.handle, "/initialize", "/initialize/")
    _add(app, "healthz", "GET", status.healthz, "/healthz")
    _add(app, "readyz", "GET", status.readyz, "/readyz")
    if serves_metrics:
        _add(app, "metrics", "GET", status.metrics, "/metrics")
    _add(app, "none", hdrs.METH_ANY, unrouted.unrouted, unrouted.PATH)
    return app


_REST = r"{rest:[\s\S]*}"
_ROUTE: web.RequestKey[str] = web.RequestKey("route", str)


def _add(app: web.Application, name: str, method: str, handler: Handler, *paths: str) -> None:
    """Add routes under a name, by which the metrics count them."""

    async def named(request: web.Request) -> web.StreamResponse:
        request[_ROUTE] = name
        return await handler(request)

    for path in paths:
        if method == "GET":
            app.router.add_get(path, named, expect_handler=leave_to_handler)
        else:
            app.router.add_route(method, path, named, expect_handler=leave_to_handler)


async def name_server(_request: web.Request, response: web.StreamResponse) -> None:
    """Set the Server header to pywharf and its version, not to the framework's."""
    response.headers["Server"] = _SERVER


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = _SERVER
    allow_reading(request, response)
    secure_transport(request, response)


def _outermost(metrics: Metrics, access_log: AccessLog, running: RunningRequests) -> Middleware:
    @web.middleware
    async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        response: web.StreamResponse | None = None
        sent = False
        try:
            with running, Working(request):
                response = await _answer(request, handler)
                if running.ending or is_waiting(request) or not request.content.is_eof():
                    response.force_close()
                # The framework would send it next. Sent here, it counts in the request's time, and a stop waits for it.
                await response.prepare(request)
                await response.write_eof()
            sent = True
        except ConnectionError:
            # No answer can reach the client. The framework closes a cancelled request's connection silently;
            # it would log any other error as the server's fault.
            raise asyncio.CancelledError from None
        else:
            return response
        finally:
            seconds = time.perf_counter() - started
            answered = response.status if response is not None and sent else _CLIENT_GONE
            length = 0
            if response is not None and sent and request.method != hdrs.METH_HEAD:
                length = response.content_length or response.body_length
            method = request.method if request.method in hdrs.METH_ALL else "OTHER"
            metrics.request(method, request.get(_ROUTE, "none"), answered, seconds)
            access_log.write(request, request.get(REPO), answered, length, seconds)

    return outermost


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except PywharfError as error:
        if request.writer.output_size:  # part of the answer was sent: only closing the connection reports it
            _logger.error("An answer broke off: %s %s: %s", request.method[:20], request.rel_url.raw_path[:300], error)  # noqa: TRY400
            raise ConnectionAbortedError from error
        if isinstance(error, WithheldError):
            request.app[METRICS].refused_downloads.labels(error.rule).inc()
        return problem(request, await refused(request, error))
    except web.HTTPException as error:
        return problem(request, _as_problem(request, error))
    except (asyncio.CancelledError, ConnectionError):
        raise
    except UNREADABLE_BODY as error:
        return problem(request, BadRequestError(f"The body cannot be read: {reason_of(error)}."))
    except Exception:
        _logger.exception("A request failed: %s %s", request.method[:20], request.rel_url.raw_path[:300])
        if request.writer.output_size:
            raise ConnectionAbortedError from None
        return problem(request, PywharfError("Something went wrong inside the server; its log says what."))


def _as_problem(request: web.Request, error: web.HTTPException) -> PywharfError:
    """Convert an error of the framework to one of ours, so that all answers have the same form."""
    if isinstance(error, web.HTTPNotFound):
        return nothing_at(request)
    return BadRequestError(error.reason or "The request cannot be read.")
