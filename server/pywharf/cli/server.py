"""The command `pywharf server`: it assembles the server and runs it in one process or several."""

import asyncio
import concurrent.futures
import contextlib
import functools
import logging
import secrets
import shutil
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import click
from aiohttp import web

from pywharf import __version__
from pywharf.backends.opening import open_backend, spec_types
from pywharf.backends.registration import OpenBackend
from pywharf.cli import open_files
from pywharf.cli.ending import LATE_S, end_within
from pywharf.cli.flags import CONTEXT, Command, environment_name, options_of
from pywharf.cli.workers import stop_signals, supervise
from pywharf.config.repo_config import BackendSpec
from pywharf.config.settings import ServerSettings
from pywharf.core.errors import IncompleteConfigError, InvalidConfigError
from pywharf.core.names import RepoName
from pywharf.core.redaction import Redacted
from pywharf.core.secret_text import secret_text
from pywharf.core.struct_errors import convert
from pywharf.egress.sessions import egress_of
from pywharf.egress.upstream_client import UpstreamClient
from pywharf.index.generations import Generations
from pywharf.index.ports import Backend
from pywharf.index.upstream.extra_index import ExtraIndex
from pywharf.listener import listen, url_host
from pywharf.serving.config_source import ConfigSource, watch
from pywharf.serving.in_flight import RunningRequests
from pywharf.serving.metrics import Metrics
from pywharf.serving.repos import LoadedConfig, ServedRepos
from pywharf.serving.session_files import SessionFiles
from pywharf.serving.sessions import Sessions
from pywharf.serving.watched_files import exists
from pywharf.serving.worker_digests import ServedConfigs
from pywharf.web import aiohttp_logging as client_faults
from pywharf.web.access_log import LOGGER_NAME, AccessLog
from pywharf.web.app import build_app
from pywharf.web.connections import Connections
from pywharf.web.initialize import Initializer
from pywharf.web.internal import answering, build_internal_app
from pywharf.web.listening import accepting, files_state, tls_context, watch_tls

_logger = logging.getLogger(__name__)
_THREADS = 32
_SESSION_KEY_BYTES = 32
_CLOSING_S = 1.0
"""Seconds for the framework to close the connections, on which no request runs any longer."""


def _run(**values: Any) -> None:
    settings = convert(values, ServerSettings, "pywharf server")
    _set_up_logging(settings)
    _make_root(settings.root)
    with _shared(settings) as shared:
        if settings.workers == 1:
            asyncio.run(_run_worker(settings, shared))
        else:
            # Check before the workers start, so that a mistake is reported once.
            ConfigSource(settings, spec_types()).load()
            _tls(settings)
            supervise(
                settings.workers,
                lambda: asyncio.run(_run_worker(settings, shared)),
                shared.folder,
                # Otherwise clients would wait in vain once the workers have stopped listening.
                on_stop=shared.close_listeners,
            )


server = Command(
    "server",
    callback=_run,
    params=[
        click.Argument(["root"], envvar=environment_name("root")),
        *options_of(ServerSettings, leave_out={"root"}),
    ],
    context_settings=CONTEXT,
    help="""Serve the repos of a TOML configuration. ROOT is the folder of the file_system repos.

    \b
    Example:
      pywharf server /var/lib/pywharf --config=config.toml --admin_secret=admin_secret.toml
    \b
    config.toml:                     admin_secret.toml:
      [team-a]                         [team-a]
      type = "file_system"             type = "file_system"
      read_secret = "foo"              raw = "foo"
      write_secret = "bar"

    Both files are watched: a good new one is served at once, a bad one is refused and said in the log.
    """,
)


def _make_root(root: str) -> None:
    try:
        Path(root).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is not a folder" if isinstance(error, FileExistsError) else error.strerror
        raise InvalidConfigError(
            f"ROOT {root[:300]} cannot be used: {reason}. It is the folder that the server keeps packages in."
        ) from error


def _tls(settings: ServerSettings) -> tuple[ssl.SSLContext | None, list[Callable[[], Coroutine[Any, Any, None]]]]:
    """Return the TLS context and the watchers of its files; `None, []` if the server uses plain HTTP."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None, []
    pair = settings.tls_cert, settings.tls_key
    seen = files_state(*pair)  # taken before they are read
    context = tls_context(*pair)
    return context, [functools.partial(watch_tls, context, *pair, seen)]


class Shared(Redacted, frozen=True):
    """What all workers of one server share."""

    listener: socket.socket
    internal: socket.socket | None
    """The listener for the cluster, not for clients."""
    folder: Path
    """A private folder, deleted when the server ends."""
    session_key: bytes
    initialize_secret: str | None
    generations: Generations | None = None
    """The repos' generations, which several workers share; None with one worker."""

    def close_listeners(self) -> None:
        """Close the listeners here; other processes keep theirs."""
        self.listener.close()
        if self.internal is not None:
            self.internal.close()


@contextlib.contextmanager
def _shared(settings: ServerSettings) -> Iterator[Shared]:
    key = _secret_text(settings, settings.session_secret, "--session_secret")
    initialize_secret = _secret_text(settings, settings.initialize_secret, "--initialize_secret")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(settings, settings.port, "--port"))
        internal = None
        if settings.internal_port is not None:
            internal = stack.enter_context(_listen(settings, settings.internal_port, "--internal_port"))
        folder = Path(tempfile.mkdtemp(prefix="pywharf-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        session_key = key.encode() if key is not None else secrets.token_bytes(_SESSION_KEY_BYTES)
        generations = Generations() if settings.workers > 1 else None
        yield Shared(listener, internal, folder, session_key, initialize_secret, generations)


def _secret_text(settings: ServerSettings, given: str | None, flag: str) -> str | None:
    if given is None:
        return None
    path = Path(given)
    try:
        is_text = settings.config_or_admin_secret_can_be_text and not exists(given)
        text = secret_text(given if is_text else path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InvalidConfigError(
            f"{flag}: its file cannot be read: {reason}. It is the path of a file that holds the secret."
        ) from error
    if not text.strip():
        raise InvalidConfigError(f"{flag}: the secret is empty.")
    return text


def _listen(settings: ServerSettings, port: int, flag: str) -> socket.socket:
    try:
        return listen(settings.host, port, settings.backlog)
    except OSError as error:
        raise InvalidConfigError(
            f"Cannot listen on {settings.host} port {port}: {error.strerror}. Choose another --host or {flag}."
        ) from error


def _url(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{url_host(host)}:{port}"


async def _run_worker(settings: ServerSettings, shared: Shared) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in stop_signals():
        loop.add_signal_handler(number, stop.set)
    ending = asyncio.create_task(_end_in_time(settings, stop))
    try:
        await _serve(settings, shared, stop, lambda url: _logger.info("Serving on %s", url))
    finally:
        ending.cancel()


async def _end_in_time(settings: ServerSettings, stop: asyncio.Event) -> None:
    await stop.wait()
    end_within(settings.shutdown_delay + settings.shutdown_timeout + LATE_S)


async def serve(
    settings: ServerSettings, *, stop: asyncio.Event, on_ready: Callable[[str], None] = lambda _: None
) -> None:
    """Serve in this process and event loop until `stop` is set, then let running transfers finish.

    `on_ready` is called with the base URL. Raises InvalidConfigError.
    """
    with _shared(settings) as shared:
        await _serve(settings, shared, stop, on_ready)


async def _serve(
    settings: ServerSettings, shared: Shared, stop: asyncio.Event, on_ready: Callable[[str], None]
) -> None:
    asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(_THREADS, "pywharf"))
    client_faults.quiet_client_faults()
    most = open_files.connections(settings.max_connections)
    root = Path(settings.root)
    egress = egress_of(settings.allowed_endpoints)
    metrics = Metrics()
    source = ConfigSource(settings, spec_types(), shared.folder / "submitted.json")
    served = ServedConfigs(shared.folder if settings.workers > 1 else None)
    submissions = shared.folder if shared.initialize_secret else None
    initializer = Initializer(shared.initialize_secret, source, submissions, served)
    sessions = Sessions(
        shared.session_key, settings.auth_read_expires, settings.auth_write_expires, SessionFiles(root / "sessions")
    )

    def open_repo(spec: BackendSpec, name: RepoName, secret: str | None) -> Backend:
        return open_backend(OpenBackend(spec, name, root, secret, egress=egress))

    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            UpstreamClient(metrics.count_upstream, f"pywharf/{__version__}", egress)
        )
        instance = await stack.enter_async_context(
            ServedRepos(settings, open_repo, ExtraIndex(client), metrics, shared.generations)
        )

        async def apply(config: LoadedConfig) -> None:
            await instance.apply(config)
            served.tell(config.digest)

        running = RunningRequests()
        if shared.internal is not None:
            internal_app = build_internal_app(instance, running, served.common)
            await stack.enter_async_context(answering(internal_app, shared.internal))
            _logger.info("Probes, metrics and GET /config on %s", _url(shared.internal, "http"))
        try:
            await apply(await asyncio.to_thread(source.load))
            metrics.config_valid.set(1)
        except IncompleteConfigError as error:
            # The rest has yet to arrive; until then the server is not ready.
            _logger.warning("%s", error)
            metrics.config_valid.set(0)
        app = build_app(
            instance,
            sessions,
            initializer,
            AccessLog(settings.access_log),
            running,
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
        tasks = [asyncio.create_task(watch(source, apply, metrics))]
        context, watching_tls = _tls(settings)
        tasks += [asyncio.create_task(one()) for one in watching_tls]
        async with accepting(
            runner,
            shared.listener,
            connections=Connections(most, f"port {shared.listener.getsockname()[1]}"),
            settings=protocol,
            context=context,
            backlog=settings.backlog,
        ):
            on_ready(_url(shared.listener, "https" if context else "http"))
            await stop.wait()
            running.ending = True
            if settings.shutdown_delay:
                _logger.info("Stopping: new connections are taken for another %s s.", settings.shutdown_delay)
                await asyncio.sleep(settings.shutdown_delay)
            _logger.info("Stopping: running transfers may finish within %s s.", settings.shutdown_timeout)
        if not await running.finish(settings.shutdown_timeout):
            _logger.warning("Not all transfers finished in time; the others are cut off.")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _set_up_logging(settings: ServerSettings) -> None:
    logging.getLogger().setLevel(logging.DEBUG if settings.debug else logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.INFO)
    if settings.access_log == "json":
        # Write the JSON alone, without the usual prefix.
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        access = logging.getLogger(LOGGER_NAME)
        access.addHandler(handler)
        access.propagate = False
