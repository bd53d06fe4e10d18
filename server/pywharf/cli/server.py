"""The command `pywharf server`: it assembles the server and runs it in one process or several."""

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pywharf.cli.ending import LATE_S, end_within
from pywharf.cli.flags import CONTEXT, Command, environment_name, options_of
from pywharf.cli.shared import Shared, sharing
from pywharf.cli.worker import config_source, open_worker, tls_of
from pywharf.cli.workers import stop_signals, supervise
from pywharf.config.settings import ServerSettings
from pywharf.core.errors import InvalidConfigError
from pywharf.core.os_errors import reason_of
from pywharf.core.struct_errors import convert
from pywharf.serving import audit_log
from pywharf.web import access_log

_logger = logging.getLogger(__name__)


def _run(**values: Any) -> None:
    settings = convert(values, ServerSettings, "pywharf server")
    _set_up_logging(settings)
    _make_root(settings.root)
    with sharing(settings) as shared:
        if settings.workers == 1:
            asyncio.run(_run_worker(settings, shared))
        else:
            # Check before the workers start, so that a mistake is reported once.
            config_source(settings).load()
            tls_of(settings)
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
        reason = "it is not a folder" if isinstance(error, FileExistsError) else reason_of(error)
        raise InvalidConfigError(
            f"ROOT {root[:300]} cannot be used: {reason}. It is the folder that the server keeps packages in."
        ) from error


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
    _write_alone(audit_log.LOGGER_NAME)
    with sharing(settings) as shared:
        await _serve(settings, shared, stop, on_ready)


async def _serve(
    settings: ServerSettings, shared: Shared, stop: asyncio.Event, on_ready: Callable[[str], None]
) -> None:
    async with open_worker(settings, shared) as worker:
        async with worker.listening() as url:
            on_ready(url)
            await stop.wait()
            await worker.announce_end()
        await worker.drain()


def _set_up_logging(settings: ServerSettings) -> None:
    logging.getLogger().setLevel(logging.DEBUG if settings.debug else logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.INFO)
    if settings.access_log == "json":
        _write_alone(access_log.LOGGER_NAME)
    _write_alone(audit_log.LOGGER_NAME)


def _write_alone(logger: str) -> None:
    """Write the lines of a logger, which are JSON, without the usual prefix. Idempotent."""
    found = logging.getLogger(logger)
    if not found.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        found.addHandler(handler)
        found.propagate = False
