"""The configuration of kopf: which objects it watches, and how. An event wakes servers and does nothing else."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import kopf
import msgspec

from pywharf.core.backoff import backoff_s
from pywharf_operator.cluster.login import connect
from pywharf_operator.cluster.trimming import trimmed
from pywharf_operator.spec import CREDENTIALS_LABEL
from pywharf_operator.spec.faults import error_location
from pywharf_operator.spec.kinds import CONFIG_MAP, JOB, NAMESPACE, OWNED, POD, POLICY, REPO, SECRET, SERVER, Kind
from pywharf_operator.spec.names import REPO_LABEL, SERVER_LABEL
from pywharf_operator.watching.kopf_session import session_of
from pywharf_operator.watching.waking import Wakeup, Waking

_logger = logging.getLogger(__name__)


class Watch(msgspec.Struct, frozen=True):
    """A kind to watch, limited to the objects that match a label selector if there is one."""

    kind: Kind
    labels: str | None = None
    """A label selector in the API's syntax."""


RESOURCES: Final = (
    Watch(REPO),
    Watch(SERVER),
    Watch(POLICY),
    Watch(SECRET, f"{CREDENTIALS_LABEL}=true"),
    *(Watch(kind, SERVER_LABEL) for kind in (*OWNED, JOB, POD) if kind is not SECRET),
    Watch(CONFIG_MAP, REPO_LABEL),
)
OWNED_SECRETS: Final = (Watch(SECRET, SERVER_LABEL),)
"""Separate from RESOURCES, because no selector can express one label or another."""
NAMESPACES: Final = Watch(NAMESPACE)
"""Watched only if all namespaces are."""


_FIRST_RETRY_S: Final = 0.5
_LONGEST_RETRY_S: Final = 10.0
_RETRY_JITTER: Final = 0.25

_OF_KOPF: Final = (REPO, SERVER, NAMESPACE)


class WatchTimeouts(msgspec.Struct, frozen=True, kw_only=True):
    """The timeouts and backoffs of a watch."""

    stream_s: int = 40
    """Seconds after which the API server ends a stream; a silent stream is abandoned a little later."""
    connect_s: float = 5.0
    request_s: float = 30.0
    error_backoffs_s: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0, 5.0)
    """Seconds between the attempts of a request; after the last one kopf ends and is started again."""

    @staticmethod
    def retry_s(failures: int) -> float:
        """Return the seconds to wait before a watch starts again, after this many failures in a row."""
        return backoff_s(failures - 1, first_s=_FIRST_RETRY_S, longest_s=_LONGEST_RETRY_S, jitter=_RETRY_JITTER)


def reduce_kopf_logs(*, debug: bool) -> None:
    """Reduce kopf's log: it would log whole objects, and the operator itself logs once why kopf ended."""
    logging.getLogger("kopf").setLevel(logging.WARNING if debug else logging.CRITICAL)
    for name in ("kopf._cogs.clients.watching", "kopf._core.reactor.running"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def settings_of(watches: Sequence[Watch], timeouts: WatchTimeouts) -> kopf.OperatorSettings:
    """Return the settings with which kopf writes to no object and discovers no kinds besides the watched ones."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = None
    settings.queueing.idle_timeout = 0.5
    settings.queueing.exit_timeout = 0.5
    settings.watching.server_timeout = timeouts.stream_s
    settings.watching.client_timeout = timeouts.stream_s + 5
    settings.watching.inactivity_timeout = timeouts.stream_s + 10
    settings.watching.connect_timeout = timeouts.connect_s
    # A page is read whole, and anybody who may create PackageRepos may make each one 1.5 MiB large.
    settings.watching.chunk_size = 10
    settings.networking.connect_timeout = timeouts.connect_s
    settings.networking.request_timeout = timeouts.request_s
    settings.networking.error_backoffs = timeouts.error_backoffs_s
    for watch in watches:
        if watch.labels is not None:
            settings.watching.label_selectors[watch.kind.api_version, watch.kind.plural] = watch.labels
    return settings


class LoginRefusedError(Exception):
    """The API server no longer accepts these credentials (HTTP 401), and there are no others."""


def by_kopf(watches: Sequence[Watch]) -> tuple[Watch, ...]:
    """Return the watches for kopf: those of PackageRepos, PackageServers and, if watched, the Namespaces.

    The others are the operator's own watches, which read one object at a time, and of Secrets only the metadata. A
    PackagePolicy may be as large as a Secret, and a cluster may lack the kind.
    """
    return tuple(one for one in watches if one.kind in _OF_KOPF)


def registry_of(
    watches: Sequence[Watch],
    waking: Waking,
    wake: Callable[[Wakeup], None],
    failed: Callable[[Exception], None],
) -> kopf.OperatorRegistry:
    """Return the handlers that report which servers an event wakes, and a failed login.

    After a failed login kopf itself would wait forever.
    """
    refused: list[kopf.ConnectionInfo] = []

    async def login(**_: object) -> kopf.AiohttpSession:
        try:
            found = await _login()
            if found in refused:
                raise LoginRefusedError  # noqa: TRY301 - logged like any other failure
        except Exception as error:
            failed(error)
            raise
        refused.append(found)  # if kopf asks again, these credentials were refused
        return session_of(found)

    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry, errors=kopf.ErrorsMode.PERMANENT)(login)
    for watch in watches:
        _register(registry, watch.kind, waking, wake)
    return registry


def _register(registry: kopf.OperatorRegistry, kind: Kind, waking: Waking, wake: Callable[[Wakeup], None]) -> None:
    async def handle(event: Any, **_: object) -> None:  # noqa: ANN401 - kopf's raw event
        try:
            wakeup = waking.woken(kind, event["type"], trimmed(kind, event["object"]))
        except Exception as error:  # noqa: BLE001 - one odd object must not end every watch
            _logger.warning(
                "An event of %s cannot be read, so everything is looked at: %s", kind.name, error_location(error)
            )
            wakeup = Wakeup(everything=True)
        if wakeup.keys or wakeup.everything:
            wake(wakeup)

    kopf.on.event(kind.api_version, kind.plural, registry=registry, id=f"wake-by-{kind.plural}")(handle)


async def _login() -> kopf.ConnectionInfo:
    """Log in as the API client does; called again after a token was refused."""
    client = await connect()
    try:
        configuration = client.configuration
        header: str = await configuration.get_api_key_with_prefix("BearerToken") or ""
        scheme, _separator, token = header.strip().rpartition(" ")
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            username=configuration.username or None,
            password=configuration.password or None,
            scheme=(scheme or "Bearer") if token else None,
            token=token or None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            proxy_url=configuration.proxy,
        )
    finally:
        await client.close()  # type: ignore[no-untyped-call]
