"""The composition of the operator's parts in one process."""

import asyncio
import contextlib
import logging
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Final

import aiohttp
import msgspec
from kubernetes.aio.client import ApiClient
from kubernetes.aio.config import ConfigException

from pywharf.backends.opening import spec_types
from pywharf.core.errors import InvalidConfigError
from pywharf.core.os_errors import reason_of
from pywharf.listener import url_host
from pywharf_operator.cluster.issuer_reader import IssuerReader
from pywharf_operator.cluster.kube import Kube, KubeError
from pywharf_operator.cluster.leader import Leadership, LeadershipLostError
from pywharf_operator.cluster.login import connect, in_cluster_namespace
from pywharf_operator.cluster.namespaces import FORBIDDEN, Namespaces
from pywharf_operator.process.metrics import Metrics
from pywharf_operator.process.options import Options, lease, lease_metadata
from pywharf_operator.process.probes import Probes, Pulse
from pywharf_operator.process.work_queue import Timing, WorkQueue
from pywharf_operator.reconciling.observed import POLICIES
from pywharf_operator.reconciling.reconciler import Reconciler, Settings
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.faults import error_location
from pywharf_operator.spec.kinds import REPO, SERVER
from pywharf_operator.watching.registry import NAMESPACES, OWNED_SECRETS, RESOURCES, reduce_kopf_logs
from pywharf_operator.watching.waking import Wakeup
from pywharf_operator.watching.watcher import Watcher

_logger = logging.getLogger(__name__)
_GRACE_S: Final = 4.0
"""Seconds for running reconciles when the operator stops."""
_LIST_AGAIN_S: Final = 2.0
_LONGEST_MESSAGE: Final = 500


def operate(options: Options) -> int:
    """Run until a signal arrives; return the exit status. Raises InvalidConfigError."""
    _set_up_logging(debug=options.debug)
    return asyncio.run(_operate(options))


async def _operate(options: Options) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    metrics = Metrics()
    async with contextlib.AsyncExitStack() as stack:
        leadership = None
        if options.leader_elect:
            # The Lease has its own client, so that a renewal never waits for other requests or for permission to write.
            lease_kube = await stack.enter_async_context(Kube(await _client(), count=metrics.requested))
            identity = f"{socket.gethostname()}_{uuid.uuid4()}"
            own = msgspec.to_builtins(lease_metadata(options))
            leadership = Leadership(lease_kube, lease(options, in_cluster_namespace()), identity, own)
        leads = _always if leadership is None else leadership.holds
        kube = await stack.enter_async_context(Kube(await _client(), may_write=leads, count=metrics.requested))
        # The watches have their own client, too: each one keeps a connection, and their number is not limited.
        watching = await stack.enter_async_context(Kube(await _client(connections=0)))
        # Pods are reached directly, and their responses are never decompressed.
        http = await stack.enter_async_context(
            aiohttp.ClientSession(headers={"Accept-Encoding": "identity"}, auto_decompress=False, trust_env=False)
        )
        operator = Operator(options, kube, watching, http, metrics, leadership)
        metrics.watch(depth=lambda: operator.queue.depth, leads=leads)
        probes = Probes(operator.faults, operator.not_ready, metrics.render)
        port = await stack.enter_async_context(_listening(probes, options))
        _logger.info("Probes and metrics: http://%s:%d", url_host(options.host), port)
        return await operator.run(stop)


class Operator:
    """The operator. It lists the objects, waits until it leads, then watches and reconciles."""

    def __init__(  # noqa: PLR0913, PLR0917 - one parameter for each part
        self,
        options: Options,
        kube: Kube,
        watching: Kube,
        http: aiohttp.ClientSession,
        metrics: Metrics,
        leadership: Leadership | None,
    ) -> None:
        self._kube = kube
        self._leadership = leadership
        self._pulse = Pulse()
        self._listed = False
        namespaces = options.namespace or None
        settings = Settings(namespaces=namespaces, specs=spec_types(), image=options.image)
        self._namespaces = Namespaces(kube, namespaces, changed=metrics.unreadable)
        self._issuer = IssuerReader(kube, changed=lambda server: self.queue.add(server))  # noqa: PLW0108 - see below
        self._reconciler = Reconciler(
            kube,
            http,
            settings,
            counted=metrics.repos,
            namespaces=self._namespaces,
            again=lambda key: self.queue.add(key),  # noqa: PLW0108 - the queue is created later
            issuer=self._issuer,
        )
        self.queue = WorkQueue(
            self._reconciler.reconcile,
            listing=self._keys,
            finished=metrics.reconciled,
            describe=_described,
            timing=Timing(resync_s=(float(options.resync), 2.0 * options.resync)),
        )

        def watcher(namespace: str | None) -> Watcher:
            return Watcher(
                (*RESOURCES, *OWNED_SECRETS) if namespace else (*RESOURCES, *OWNED_SECRETS, NAMESPACES),
                [namespace] if namespace else [],
                self._wake,
                name=f"watches of {namespace}" if len(options.namespace) > 1 else "watches",
                missing=lambda: self._missing_in(namespace),
                restarted=metrics.restarted,
                kube=watching,
            )

        # One watcher per namespace, because kopf ends altogether if a single namespace cannot be read.
        self._watchers = tuple(watcher(one) for one in options.namespace or (None,))

    def faults(self) -> Iterator[str]:
        """Yield the faults that a restart of the process may fix."""
        yield from self.queue.stalled()
        for fault in (self._pulse.fault(), *(watcher.fault() for watcher in self._watchers)):
            if fault is not None:
                yield fault

    def not_ready(self) -> str | None:
        """Return why the operator is not ready, or None. A replica that waits for the Lease is ready to take over."""
        return None if self._listed else "The objects have not been listed yet."

    async def run(self, stop: asyncio.Event) -> int:
        """Run until `stop` is set or another replica leads; return the exit status."""
        work = asyncio.create_task(self._work(), name="work")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not work.done():
            _logger.info("Stopping: running reconciles may finish within %.0f s.", _GRACE_S)
            work.cancel()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await work
        except LeadershipLostError as error:
            _logger.error("%s This process ends; started again, it may lead again.", error)  # noqa: TRY400 - an expected end, without a traceback
            await self.queue.stop(0.0)
            return 1
        await self.queue.stop(_GRACE_S)
        if self._leadership is not None:
            await self._leadership.release()
        return 0

    async def _work(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pulse.run(), name="pulse")
                await self._list()
                if self._leadership is not None:
                    await self._leadership.acquire()
                    tasks.create_task(self._leadership.keep(), name="lease")
                tasks.create_task(self.queue.run(), name="queue")
                tasks.create_task(self._issuer.run(), name="issuer")
                for watcher in self._watchers:
                    tasks.create_task(watcher.run(), name="watcher")
        except* LeadershipLostError as errors:
            raise errors.exceptions[0] from None

    async def _list(self) -> None:
        """List the objects; retry until the API server has answered once and has the kinds."""
        logged = None
        while True:
            try:
                lacking = await self._missing()
                if lacking is None:
                    await self._reconciler.keys()
                    self._listed = True
                    return
            except KubeError as error:
                lacking = f"The objects cannot be listed: {_described(error).rstrip('.')}."
            if lacking != logged:
                _logger.warning("%s Waiting for it.", lacking)
            logged = lacking
            await asyncio.sleep(_LIST_AGAIN_S)

    async def _keys(self) -> frozenset[ObjectKey]:
        """Return the keys to reconcile in a full resync, and let the reconciler forget what is gone."""
        keys = await self._reconciler.keys()
        self._reconciler.forget_gone(keys)
        return keys.to_reconcile

    async def _missing(self) -> str | None:
        """Return what the cluster lacks, as a sentence, or None."""
        lacking = [f"{kind.plural}.pywharf.dev" for kind in (REPO, SERVER) if not await self._kube.exists(kind)]
        if not lacking:
            return None
        return f"The CustomResourceDefinition {' and '.join(lacking)} is not in the cluster; apply the chart's CRDs."

    async def _missing_in(self, namespace: str | None) -> str | None:
        """Return what is missing before a namespace's custom resources can be watched, as a sentence, or None."""
        lacking = await self._missing()
        if lacking is not None or namespace is None:
            return lacking
        for kind in (REPO, SERVER):
            try:
                await self._namespaces.reading(namespace, kind, self._kube.probe(kind, namespace))
            except KubeError as error:
                if error.status != FORBIDDEN:
                    raise
                return f"The namespace {namespace} cannot be read."
        return None

    def _wake(self, woken: Wakeup) -> None:
        if woken.repo is not None:
            if woken.deleted:
                self._namespaces.deleted([woken.repo])
            else:
                self._namespaces.seen(woken.repo)
        if woken.server is not None:
            self._reconciler.appeared(woken.server)
        if woken.policies:
            self.queue.add(POLICIES)
        for key in woken.keys:
            self.queue.add(self._reconciler.key_of_event(key))
        if woken.everything:
            self.queue.resync()


def _always() -> bool:
    return True


async def _client(connections: int | None = None) -> ApiClient:
    try:
        return await (connect() if connections is None else connect(connections))
    except (ConfigException, OSError) as error:
        raise InvalidConfigError(
            f"There is no way to log in to a cluster: {error}. Set KUBECONFIG, or run in a pod with a ServiceAccount."
        ) from None


@contextlib.asynccontextmanager
async def _listening(probes: Probes, options: Options) -> AsyncIterator[int]:
    async with contextlib.AsyncExitStack() as stack:
        try:
            port = await stack.enter_async_context(probes.listening(options.host, options.port))
        except OSError as error:
            raise InvalidConfigError(f"--port {options.port}: {reason_of(error)}.") from None
        yield port


def _described(error: Exception) -> str:
    """Describe an error without the objects that it is about."""
    return str(error)[:_LONGEST_MESSAGE] if isinstance(error, KubeError) else error_location(error)


def _set_up_logging(*, debug: bool) -> None:
    logging.getLogger().setLevel(logging.DEBUG if debug else logging.INFO)
    # At the debug level the API client logs every response, including Secrets.
    for name in ("asyncio", "client", "kubernetes", "urllib3"):
        logging.getLogger(name).setLevel(logging.INFO)
    reduce_kopf_logs(debug=debug)
