"""What kopf is told: which objects it watches, how, and that an event wakes servers and does nothing else."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import kopf
import msgspec

from pywharf_operator.cluster.faults import place_of
from pywharf_operator.cluster.kube import connect
from pywharf_operator.cluster.trimming import trimmed
from pywharf_operator.render.labels import SERVER_LABEL
from pywharf_operator.spec import CREDENTIALS_LABEL
from pywharf_operator.spec.kinds import JOB, NAMESPACE, OWNED, POD, REPO, SECRET, SERVER, Kind
from pywharf_operator.watching.kopf_session import session_of
from pywharf_operator.watching.waking import Waking, Woken

_logger = logging.getLogger(__name__)


class Watch(msgspec.Struct, frozen=True):
    """The objects of a kind that have a label."""

    kind: Kind
    labels: str | None = None
    """A label selector of the API."""


RESOURCES: Final = (
    Watch(REPO),
    Watch(SERVER),
    Watch(SECRET, f"{CREDENTIALS_LABEL}=true"),
    *(Watch(kind, SERVER_LABEL) for kind in (*OWNED, JOB, POD) if kind is not SECRET),
)
OWNED_SECRETS: Final = (Watch(SECRET, SERVER_LABEL),)
"""Apart, because no selector means one label or another."""
NAMESPACES: Final = Watch(NAMESPACE)
"""Only where all namespaces are watched."""


_OF_KOPF: Final = (REPO, SERVER, NAMESPACE)


class WatchTimeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long a watch waits for what."""

    stream_s: int = 40
    """The API server ends a stream after so long; a silent one is given up a little later."""
    connect_s: float = 5.0
    request_s: float = 30.0
    error_backoffs_s: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0, 5.0)
    """Between the tries of a request; after the last one kopf ends and is started anew."""


def quieten(*, debug: bool) -> None:
    """Leave of kopf's log what says something: why it ended is said once, here, and it would log whole objects."""
    logging.getLogger("kopf").setLevel(logging.WARNING if debug else logging.CRITICAL)
    for name in ("kopf._cogs.clients.watching", "kopf._core.reactor.running"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def settings_of(watches: Sequence[Watch], timeouts: WatchTimeouts) -> kopf.OperatorSettings:
    """Nothing is written to any object, nothing is looked for besides the kinds that are watched."""
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
    # A page is read as a whole, and whoever may create PackageRepos may make each one 1.5 MiB large.
    settings.watching.chunk_size = 10
    settings.networking.connect_timeout = timeouts.connect_s
    settings.networking.request_timeout = timeouts.request_s
    settings.networking.error_backoffs = timeouts.error_backoffs_s
    for watch in watches:
        if watch.labels is not None:
            settings.watching.label_selectors[watch.kind.api_version, watch.kind.plural] = watch.labels
    return settings


class LoginRefusedError(Exception):
    """The API server takes these credentials no more, and there are no others (HTTP 401)."""


def by_kopf(watches: Sequence[Watch]) -> tuple[Watch, ...]:
    """Those that kopf watches: the custom resources and, where they are watched, the Namespaces.

    The others have watches of the operator's own, which read one object at a time, and of Secrets the metadata alone.
    """
    return tuple(one for one in watches if one.kind in _OF_KOPF)


def registry_of(
    watches: Sequence[Watch],
    waking: Waking,
    tell: Callable[[Woken], None],
    failed: Callable[[Exception], None],
) -> kopf.OperatorRegistry:
    """Handlers that tell which servers an event wakes, and of a login that failed: kopf would wait for ever."""
    refused: list[kopf.ConnectionInfo] = []

    async def login(**_: object) -> kopf.AiohttpSession:
        try:
            found = await _login()
            if found in refused:
                raise LoginRefusedError  # noqa: TRY301 - told of like any other
        except Exception as error:
            failed(error)
            raise
        refused.append(found)  # where kopf asks once more, it was
        return session_of(found)

    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry, errors=kopf.ErrorsMode.PERMANENT)(login)
    for watch in watches:
        _register(registry, watch.kind, waking, tell)
    return registry


def _register(registry: kopf.OperatorRegistry, kind: Kind, waking: Waking, tell: Callable[[Woken], None]) -> None:
    async def handle(event: Any, **_: object) -> None:  # noqa: ANN401 - kopf's raw event
        try:
            woken = waking.woken(kind, event["type"], trimmed(kind, event["object"]))
        except Exception as error:  # noqa: BLE001 - one odd object must not end every watch
            _logger.warning("An event of %s cannot be read, so everything is looked at: %s", kind.name, place_of(error))
            woken = Woken(everything=True)
        if woken.keys or woken.everything:
            tell(woken)

    kopf.on.event(kind.api_version, kind.plural, registry=registry, id=f"wake-by-{kind.plural}")(handle)


async def _login() -> kopf.ConnectionInfo:
    """As the API client logs in; called anew where a token was refused."""
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
