"""One worker of a server: it opens the repos, serves clients until it is stopped, and drains."""

import asyncio
import concurrent.futures
import contextlib
import functools
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from pywharf import __version__
from pywharf.backends.opening import open_backend, spec_types
from pywharf.backends.registration import OpenBackend
from pywharf.cli import open_files
from pywharf.cli.opened_cache import opened_cache
from pywharf.cli.shared import Shared
from pywharf.config.repo_config import BackendSpec
from pywharf.config.settings import ServerSettings
from pywharf.core.access.minted import MintingKey
from pywharf.core.errors import IncompleteConfigError
from pywharf.core.forwarded import TrustedProxies, parse_networks
from pywharf.core.names import RepoName
from pywharf.egress.advisory_feed import FeedClient
from pywharf.egress.issuer_keys import IssuerKeysClient
from pywharf.egress.policy import egress_of
from pywharf.egress.token_review import ApiServer, TokenReviewClient
from pywharf.egress.upstream_client import UpstreamClient
from pywharf.index.advisories import CurrentAdvisories
from pywharf.index.ports import Backend
from pywharf.index.repository import Repository
from pywharf.index.shared_resources import SharedResources
from pywharf.index.staging_room import StagingRoom
from pywharf.index.upstream.extra_index import ExtraIndex
from pywharf.index.upstream.health import SourceHealth
from pywharf.listener import url_host
from pywharf.serving.advisories.follower import FeedFollower
from pywharf.serving.advisories.served_files import ServedFiles
from pywharf.serving.advisories.source import FeedSource
from pywharf.serving.audit_log import AuditLog
from pywharf.serving.brake import Brake
from pywharf.serving.config_source import ConfigGiven, ConfigSource, watch
from pywharf.serving.definitions import LoadedConfig
from pywharf.serving.gatekeeper import Gatekeeper
from pywharf.serving.identity.jwt_verifier import JwtVerifier
from pywharf.serving.in_flight import RunningRequests
from pywharf.serving.metrics import Metrics
from pywharf.serving.opened_repo import RepoOpener
from pywharf.serving.repos import ServedRepos
from pywharf.serving.session_files import SessionFiles
from pywharf.serving.sessions import Sessions
from pywharf.serving.trusted_publishing.minting import MintedVerifier, Minting
from pywharf.serving.trusted_publishing.used_tokens import UsedTokens
from pywharf.serving.worker_digests import ServedConfigs
from pywharf.web import aiohttp_logging as client_faults
from pywharf.web.access_log import AccessLog
from pywharf.web.app import Services, build_app
from pywharf.web.connections import Connections
from pywharf.web.initialize import Initializer
from pywharf.web.internal import answering, build_internal_app
from pywharf.web.listening import accepting, files_state, tls_context, watch_tls

_logger = logging.getLogger(__name__)
_THREADS = 32
_USER_AGENT = f"pywharf/{__version__}"
_CLOSING_S = 1.0
"""Seconds for the framework to close the connections, on which no request runs any longer."""

Watcher = Callable[[], Coroutine[Any, Any, None]]


class Worker(msgspec.Struct, frozen=True):
    """An opened worker. It listens, then drains; `open_worker` closes what it holds."""

    settings: ServerSettings
    listener: socket.socket
    runner: web.AppRunner
    protocol: dict[str, Any]
    """The framework's settings of each connection."""
    running: RunningRequests
    tls: ssl.SSLContext | None
    max_connections: int

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Accept connections within the context, and yield the base URL."""
        async with accepting(
            self.runner,
            self.listener,
            connections=Connections(self.max_connections, f"port {self.listener.getsockname()[1]}"),
            settings=self.protocol,
            context=self.tls,
            backlog=self.settings.backlog,
        ):
            yield _url(self.listener, "https" if self.tls else "http")

    async def announce_end(self) -> None:
        """Become unready, and go on for as long as clients may still be sent here."""
        self.running.ending = True
        if self.settings.shutdown_delay:
            _logger.info("Stopping: new connections are taken for another %s s.", self.settings.shutdown_delay)
            await asyncio.sleep(self.settings.shutdown_delay)
        _logger.info("Stopping: running transfers may finish within %s s.", self.settings.shutdown_timeout)

    async def drain(self) -> None:
        """Let running transfers finish, for a limited time."""
        if not await self.running.finish(self.settings.shutdown_timeout):
            _logger.warning("Not all transfers finished in time; the others are cut off.")


@contextlib.asynccontextmanager
async def open_worker(settings: ServerSettings, shared: Shared) -> AsyncIterator[Worker]:
    """Open the repos and the application of one worker, and close them with the context. Raises InvalidConfigError."""
    asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(_THREADS, "pywharf"))
    client_faults.quiet_client_faults()
    max_connections = open_files.connections(settings.max_connections)
    metrics, running = Metrics(), RunningRequests()
    source = config_source(settings, shared.folder / "submitted.json")
    proxies = _proxies(settings)
    served = ServedConfigs(shared.folder if settings.workers > 1 else None)
    advisories = CurrentAdvisories(has_feed=settings.advisories is not None)
    async with contextlib.AsyncExitStack() as stack:
        served_files = await stack.enter_async_context(_following_advisories(settings, shared, advisories, metrics))
        tokens = await stack.enter_async_context(_verifying_tokens(settings, metrics))

        def repository(name: RepoName) -> Repository:
            return repos.repository(name)

        used = UsedTokens(repository)
        key = MintingKey(shared.session_key)
        gatekeeper = Gatekeeper(
            settings.auth_read_expires,
            settings.auth_write_expires,
            (tokens, MintedVerifier(key)),
            is_spent=used.is_spent,
        )
        minting = Minting(key, tokens, entries=gatekeeper.entries, used=used)
        repos = await stack.enter_async_context(_repos(settings, shared, gatekeeper, metrics, advisories, running))

        async def apply(config: LoadedConfig) -> None:
            # The next request meets the new issuers and the new entries: `repos` takes these before it waits.
            tokens.replace(config.identity)
            minting.replace(config.identity.document)
            await repos.apply(config)
            served.report(config.digest)

        if shared.internal is not None:
            internal_app = build_internal_app(repos, metrics, running, served, tokens.reviews_forbidden)
            await stack.enter_async_context(answering(internal_app, shared.internal))
            _logger.info("Probes, metrics and GET /config on %s", _url(shared.internal, "http"))
        await _apply_first(source, apply, metrics)
        app = build_app(
            Services(
                repos=repos,
                gatekeeper=gatekeeper,
                sessions=_sessions(settings, shared),
                metrics=metrics,
                running=running,
                max_uploads=settings.max_uploads,
                advisories=advisories,
                served_files=served_files,
                minting=minting,
                audit_log=AuditLog(settings.audit_log, lambda kind: metrics.audit_suppressed.labels(kind).inc()),
                brake=Brake(shared.wrong_secrets),
                trusted_proxies=proxies,
            ),
            Initializer(shared.initialize_secret, source, shared.folder if shared.initialize_secret else None, served),
            AccessLog(settings.access_log, proxies),
            serves_metrics=shared.internal is None,
        )
        protocol: dict[str, Any] = {
            "access_log": None,
            "keepalive_timeout": settings.keepalive_timeout,
            # Otherwise anybody's small body could expand to gigabytes, even before the client is authenticated.
            "auto_decompress": False,
        }
        runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=_CLOSING_S, **protocol)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        tls, watchers = tls_of(settings)
        following = functools.partial(watch, source, apply, metrics, served.refuse)
        await stack.enter_async_context(_watching(following, *watchers))
        yield Worker(settings, shared.listener, runner, protocol, running, tls, max_connections)


def config_source(settings: ServerSettings, submitted: Path | None = None) -> ConfigSource:
    """Return the reader of the configuration that the settings name."""
    given = ConfigGiven(
        config=settings.config,
        admin_secret=settings.admin_secret,
        can_be_text=settings.config_or_admin_secret_can_be_text,
    )
    return ConfigSource(given, spec_types(), submitted)


def tls_of(settings: ServerSettings) -> tuple[ssl.SSLContext | None, list[Watcher]]:
    """Return the TLS context and the watchers of its files; `None, []` if the server uses plain HTTP."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None, []
    pair = settings.tls_cert, settings.tls_key
    seen = files_state(*pair)  # taken before they are read
    context = tls_context(*pair)
    return context, [functools.partial(watch_tls, context, *pair, seen)]


@contextlib.asynccontextmanager
async def _repos(  # noqa: PLR0913, PLR0917 - the parts of the worker
    settings: ServerSettings,
    shared: Shared,
    gatekeeper: Gatekeeper,
    metrics: Metrics,
    advisories: CurrentAdvisories,
    running: RunningRequests,
) -> AsyncIterator[ServedRepos]:
    egress = egress_of(settings.allowed_endpoints)

    def open_repo(spec: BackendSpec, name: RepoName, secret: str | None) -> Backend:
        return open_backend(OpenBackend(spec, name, Path(settings.root), secret, egress=egress))

    health = SourceHealth()
    async with (
        UpstreamClient(metrics.count_upstream, _USER_AGENT, egress) as client,
        opened_cache(settings, client, health, metrics, _USER_AGENT, running=running) as cache,
    ):
        shared_resources = SharedResources(
            ExtraIndex(client, health), cache, staging=StagingRoom(_staged_bytes(settings)), advisories=advisories
        )
        opener = RepoOpener(
            open_repo,
            gatekeeper,
            shared_resources,
            metrics,
            extra_index_url=settings.extra_index_url,
            generations=shared.generations,
        )
        async with ServedRepos(opener, gatekeeper, metrics, advisories.is_loading) as repos:
            yield repos


@contextlib.asynccontextmanager
async def _verifying_tokens(settings: ServerSettings, metrics: Metrics) -> AsyncIterator[JwtVerifier]:
    """Yield the verifier of issuers' tokens; it believes nobody before a configuration says whom."""
    async with contextlib.AsyncExitStack() as stack:
        keys = IssuerKeysClient(_USER_AGENT, egress_of(settings.allowed_endpoints))
        api_server = ApiServer(
            settings.token_review_url, settings.token_review_ca_file, settings.token_review_token_file
        )
        reviews = TokenReviewClient(api_server, _USER_AGENT)
        stack.push_async_callback(reviews.aclose)
        yield await stack.enter_async_context(JwtVerifier(keys, reviews, metrics))


@contextlib.asynccontextmanager
async def _following_advisories(
    settings: ServerSettings, shared: Shared, advisories: CurrentAdvisories, metrics: Metrics
) -> AsyncIterator[ServedFiles | None]:
    """Follow the feed of advisories within the context, and yield what notes the files that it may be about."""
    if settings.advisories is None:
        yield None
        return
    source = FeedSource(settings.advisories)
    served_files = ServedFiles(metrics.count_advisory_hit)
    async with contextlib.AsyncExitStack() as stack:
        client = None
        if source.is_url:
            client = FeedClient(source.text, _USER_AGENT, egress_of(settings.allowed_endpoints))
            stack.push_async_callback(client.aclose)
        follower = FeedFollower(
            source,
            settings.advisories_interval,
            client=client,
            folder=shared.folder,
            root=Path(settings.root),
            advisories=advisories,
            served=served_files,
            metrics=metrics,
        )
        await stack.enter_async_context(_watching(follower.run))
        yield served_files


def _staged_bytes(settings: ServerSettings) -> int | None:
    """Return this worker's part of the room for uploads."""
    return None if settings.max_staged_bytes is None else settings.max_staged_bytes // settings.workers


async def _apply_first(
    source: ConfigSource, apply: Callable[[LoadedConfig], Awaitable[None]], metrics: Metrics
) -> None:
    try:
        await apply(await asyncio.to_thread(source.load))
        metrics.config_valid.set(1)
    except IncompleteConfigError as error:
        # The rest has yet to arrive; until then the server is not ready.
        _logger.warning("%s", error)
        metrics.config_valid.set(0)


def _proxies(settings: ServerSettings) -> TrustedProxies:
    if settings.trusted_proxies is None:
        return TrustedProxies()
    networks = parse_networks(settings.trusted_proxies, "--trusted_proxies")
    return TrustedProxies(networks, name_people=settings.proxy_headers)


def _sessions(settings: ServerSettings, shared: Shared) -> Sessions:
    ended = SessionFiles(Path(settings.root) / "sessions")
    return Sessions(shared.session_key, settings.auth_read_expires, settings.auth_write_expires, ended)


@contextlib.asynccontextmanager
async def _watching(*watchers: Watcher) -> AsyncIterator[None]:
    """Run the watchers of files within the context."""
    tasks = [asyncio.create_task(one()) for one in watchers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _url(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{url_host(host)}:{port}"
