"""`pywharf up DIR`: operator and kubelet in one process, with the same manifests and rendering but no cluster."""

import asyncio
import contextlib
import logging
import secrets
import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import click
import msgspec
from msgspec import Meta

from pywharf.backends.opening import spec_types
from pywharf.cli.flags import CONTEXT, OWN_TYPE, Command, options_of
from pywharf.cli.server import serve
from pywharf.config.settings import ServerSettings
from pywharf.core.os_errors import reason_of
from pywharf.egress.policy import egress_of
from pywharf_operator.local.flags import FOLDER, TEXT, folder_argument
from pywharf_operator.local.manifests import Manifests
from pywharf_operator.local.up.mounted_config import Delivery
from pywharf_operator.local.up.plan import Plan, plan
from pywharf_operator.local.up.report import Reporter
from pywharf_operator.local.up.schedules import Schedules, jobs_of
from pywharf_operator.local.up.watch import WatchedFolder
from pywharf_operator.render import Environment
from pywharf_operator.render.pod.server_flags import Flags, flags_of
from pywharf_operator.spec import ObjectKey, PackageRepo

NAMESPACE = "default"
_POLL_INTERVAL_S = 1.0
_HELP = """Serve the PackageRepo, PackageServer, PackagePolicy and Secret manifests in DIR, without a cluster.

DIR is looked at every second: a new or changed manifest is served without a restart, a broken one is reported and
changes nothing else. Index schedules run in this process. Without a PackageServer in DIR one that suits is assumed;
with several, the one named pywharf is served.

\b
Example:
  pywharf up examples/quickstart --root=.pywharf --port=8888
"""
_logger = logging.getLogger(__name__)


class UpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The values of the flags."""

    folder: Path
    root: Annotated[Path, Meta(description="Folder of the fileSystem repos' packages.", extra={OWN_TYPE: FOLDER})] = (
        Path(".pywharf")
    )
    host: Annotated[str, Meta(description="Address to listen on.", extra={OWN_TYPE: TEXT})] = "127.0.0.1"
    port: Annotated[
        int, Meta(description="Port to listen on; 0: any free one.", extra={OWN_TYPE: click.IntRange(0, 65535)})
    ] = 8888


def _run(**values: Any) -> None:
    asyncio.run(_up(UpOptions(**values)))


up = Command(
    "up",
    callback=_run,
    params=[folder_argument(), *options_of(UpOptions, leave_out={"folder"})],
    context_settings=CONTEXT,
    help=_HELP,
)


async def _up(options: UpOptions) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await asyncio.to_thread(options.root.mkdir, parents=True, exist_ok=True)
    with Delivery() as delivery:
        async with Schedules(options.root) as schedules:
            session = Session(options, delivery, schedules)
            started = await session.start()
            try:
                await asyncio.to_thread(delivery.write_cache, _cache_limits(started))
            except OSError as error:
                msg = f"The cache's configuration cannot be written ({reason_of(error)})."
                raise click.ClickException(msg) from error
            settings = ServerSettings(
                root=str(options.root),
                host=options.host,
                port=options.port,
                config=delivery.config,
                admin_secret=delivery.admin_secret,
                cache_config=delivery.cache_config,
                **msgspec.structs.asdict(_flags(started)),
            )
            watching = asyncio.create_task(session.watch(), name="watch the folder")
            watching.add_done_callback(lambda _: stop.set())
            try:
                await serve(settings, stop=stop, on_ready=session.ready)
            finally:
                watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watching


def _flags(made: Plan) -> Flags:
    """Return the server's flags. Without a PackageServer, the folder's author may name any host in it."""
    flags = flags_of(made.verdict.server)
    return flags if made.has_server else msgspec.structs.replace(flags, allowed_endpoints=None)


def _cache_limits(made: Plan) -> Mapping[str, Any]:
    cache = made.verdict.server.spec.cache
    return {} if cache is None else cache.limits_table()


class Session:
    """One run of `up`: it polls the folder, delivers what it renders, and reports changes and problems."""

    def __init__(self, options: UpOptions, delivery: Delivery, schedules: Schedules) -> None:
        self._options = options
        self._folder = WatchedFolder(options.folder, NAMESPACE)
        self._delivery = delivery
        self._schedules = schedules
        self._reporter = Reporter(click.echo, lambda text: click.echo(text, err=True))
        self._environment = Environment(
            specs=spec_types(),
            credentials_folder=delivery.credentials_folder,
            session_key=secrets.token_bytes(32),
        )
        self._first_seen: dict[ObjectKey, datetime] = {}
        self._plan: Plan | None = None
        self._flags: Flags | None = None
        self._cache: Mapping[str, Any] = {}

    async def start(self) -> Plan:
        """Read the folder for the first time and deliver its configuration. The schedules begin in `watch`."""
        manifests = await asyncio.to_thread(self._folder.poll)
        self._plan = await self._take(manifests or Manifests())
        self._flags, self._cache = _flags(self._plan), _cache_limits(self._plan)
        self._schedules.egress = egress_of(self._flags.allowed_endpoints)
        return self._plan

    def ready(self, base_url: str) -> None:
        """Report that the server listens."""
        if self._plan is not None:
            self._reporter.ready(base_url, self._options.root, self._plan)

    async def watch(self) -> None:
        """Poll the folder until cancelled."""
        if self._plan is not None:
            await self._schedules.update(jobs_of(self._plan.verdict.repos))
        while True:
            await asyncio.sleep(_POLL_INTERVAL_S)
            manifests = await asyncio.to_thread(self._folder.poll)
            if manifests is None:
                continue
            self._plan = await self._take(manifests)
            self._reporter.repos(self._plan)
            await self._schedules.update(jobs_of(self._plan.verdict.repos))

    async def _take(self, manifests: Manifests) -> Plan:
        now = datetime.now(UTC)
        repos: list[PackageRepo] = manifests.of(PackageRepo)
        self._first_seen = {repo.key: self._first_seen.get(repo.key, now) for repo in repos}
        environment = msgspec.structs.replace(self._environment, now=now)
        made = await asyncio.to_thread(plan, manifests, environment, NAMESPACE, self._first_seen)
        problems, notes = list(made.problems), list(made.notes)
        try:
            await asyncio.to_thread(self._delivery.deliver, made.rendered)
        except OSError as error:
            problems.append(f"The configuration cannot be written ({reason_of(error)}); the last one stays in use.")
        if self._flags is not None and (_flags(made), _cache_limits(made)) != (self._flags, self._cache):
            notes.append(
                f"PackageServer {made.verdict.server.key}: advisories, authReadExpires, authWriteExpires, "
                "allowedEndpoints, cache, identity.trustedProxies, identity.proxyHeaders and upstream take effect when "
                "`up` is started again."
            )
        self._reporter.problems(problems)
        self._reporter.notes(notes)
        return made
