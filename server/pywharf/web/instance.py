"""The repos that one server serves, as its configuration says now."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import msgspec

from pywharf.config import BackendSpec, ServerConfig, ServerSettings
from pywharf.core.access import Credentials
from pywharf.core.errors import PywharfError, UnavailableError
from pywharf.core.names import RepoName
from pywharf.index.extra_index import ExtraIndex
from pywharf.index.glances import Glances
from pywharf.index.pages import PageCache
from pywharf.index.ports import Backend
from pywharf.index.repository import Repository, UpstreamPolicy
from pywharf.web.metrics import Metrics

_logger = logging.getLogger(__name__)
_PAGE_CACHE_BYTES = 128 * 1024 * 1024
_FIRST_LOOK_S = 2.0
_CHECKS_AT_ONCE = 2
"""Uploads whose archives are read, each by a thread that others have to wait for."""


class RepoDefinition(msgspec.Struct, frozen=True):
    """One repo's configuration with its secrets in clear."""

    spec: BackendSpec
    credentials: Credentials
    admin_secret: str | None

    def __repr__(self) -> str:
        """Nothing of the secrets."""
        return "RepoDefinition(...)"

    def is_same_but_for_credentials(self, other: "RepoDefinition") -> bool:
        """Whether only who may use it differs, if anything does."""
        return (_without_credentials(self.spec), self.admin_secret) == (
            _without_credentials(other.spec),
            other.admin_secret,
        )


def _without_credentials(spec: BackendSpec) -> BackendSpec:
    return msgspec.structs.replace(spec, read_secret=None, write_secret=None, anonymous_read=False)


class LoadedConfig(msgspec.Struct, frozen=True):
    """A configuration, complete: every secret it names was found."""

    repos: Mapping[RepoName, RepoDefinition]
    digest: str
    """Of the texts, as replicas report it."""


Opener = Callable[[BackendSpec, RepoName, str | None], Backend]


NO_CREDENTIALS = Credentials()
"""Nobody's: a repo that does not exist is compared with it, so that it takes as long as one that does."""


class _Running(msgspec.Struct):
    definition: RepoDefinition
    repository: Repository
    task: asyncio.Task[None]


class Instance:
    """Opens, follows and closes the repos. Use as an async context."""

    def __init__(
        self, settings: ServerSettings, open_backend: Opener, extra_index: ExtraIndex, metrics: Metrics
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.digest = ""
        """Of the configuration served; "" before the first."""
        self._open_backend = open_backend
        self._extra_index = extra_index
        self._pages = PageCache(_PAGE_CACHE_BYTES)
        self._glances = Glances()
        self._checks = asyncio.Semaphore(_CHECKS_AT_ONCE)
        self._running: dict[RepoName, _Running] = {}
        self._broken: dict[RepoName, str] = {}
        self._credentials: dict[RepoName, Credentials] = {}
        self._applying = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for running in self._running.values():
            await _close(running)

    def credentials(self, name: RepoName) -> Credentials:
        """The repo's secrets, which decide before anything else of it is told; of an unknown one, nobody's."""
        return self._credentials.get(name, NO_CREDENTIALS)

    def repository(self, name: RepoName) -> Repository:
        """The repo of that name. Raises UnavailableError where it could not be opened or is being replaced."""
        running = self._running.get(name)
        if running is not None:
            return running.repository
        reason = self._broken.get(name)
        if reason is not None:
            msg = f"This repo cannot be opened: {reason}"
            raise UnavailableError(msg)
        msg = "The configuration is being replaced; try again."
        raise UnavailableError(msg)

    @property
    def repositories(self) -> list[Repository]:
        """All that could be opened."""
        return [running.repository for running in self._running.values()]

    @property
    def broken(self) -> Mapping[RepoName, str]:
        """Those that could not, and why."""
        return self._broken

    async def apply(self, config: LoadedConfig) -> None:
        """Serve this configuration.

        A repo of which only the credentials changed goes on as it is; one that changed is replaced when its storage
        was looked at, so that its clients notice nothing. Where its credentials changed, too, the new ones may be
        somebody else's: they never open what was there before.
        """
        async with self._applying:
            running: dict[RepoName, _Running] = {}
            opened: list[_Running] = []
            broken: dict[RepoName, str] = {}
            try:
                for name, definition in config.repos.items():
                    now = self._running.get(name)
                    if now is not None and now.definition.is_same_but_for_credentials(definition):
                        running[name] = now
                        continue
                    try:
                        running[name] = self._open(name, definition)
                    except PywharfError as error:
                        # Only this repo is out of service.
                        _logger.error("Repo %s cannot be opened: %s", name, error)  # noqa: TRY400
                        broken[name] = str(error)
                    except Exception as error:  # of a third party's backend
                        _logger.exception("Repo %s cannot be opened.", name)
                        broken[name] = f"internal error ({type(error).__name__})."
                    else:
                        opened.append(running[name])
                # At once: what was taken back must not go on for as long as another repo's storage takes.
                credentials = {name: definition.credentials for name, definition in config.repos.items()}
                served = {
                    name: one
                    for name, one in self._running.items()
                    if running.get(name) is one or credentials.get(name) == self._credentials.get(name)
                }
                others = [one for name, one in self._running.items() if name not in served]
                self._running, self._credentials = served, credentials
                for one in others:
                    await _close(one)
                await _first_looks(opened)
            except BaseException:
                for one in opened:
                    await _close(one)
                raise
            gone = [one for name, one in self._running.items() if running.get(name) is not one]
            self._running, self._broken = running, broken
            self.digest = config.digest
            for one in gone:
                await _close(one)

    def _open(self, name: RepoName, definition: RepoDefinition) -> _Running:
        spec = definition.spec
        backend = self._open_backend(spec, name, definition.admin_secret)
        repository = Repository(
            name=name,
            backend=backend,
            upstream=upstream_policy(spec, self.settings.extra_index_url),
            extra_index=self._extra_index,
            pages=self._pages,
            max_file_bytes=spec.max_file_bytes,
            checks=self._checks,
            on_parse=self.metrics.parses.labels(name).inc,
            glances=self._glances,
        )
        task = asyncio.create_task(repository.follower.run(), name=f"follow {name}")
        return _Running(definition, repository, task)

    def observe(self) -> None:
        """Bring the gauges up to date, just before they are read."""
        for repository in self.repositories:
            follower = repository.follower
            self.metrics.synchronised.labels(repository.name).set(0 if follower.failure else 1)


async def _first_looks(opened: list[_Running]) -> None:
    """Wait until each storage was looked at, but not long: one that is slow holds nobody up."""
    looks = [asyncio.create_task(one.repository.follower.first_look()) for one in opened]
    if not looks:
        return
    try:
        await asyncio.wait(looks, timeout=_FIRST_LOOK_S)
    finally:
        for look in looks:
            look.cancel()


async def _close(running: _Running) -> None:
    running.task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running.task
    await running.repository.backend.aclose()


def upstream_policy(spec: BackendSpec, default_url: str) -> UpstreamPolicy:
    """A repo's policy; its own URL goes before the server's."""
    upstream = spec.upstream
    url = (upstream.url or default_url or None) if upstream.mode == "Pages" else None
    return UpstreamPolicy(url=url, reserved=upstream.reserved, allow_shadowing=upstream.allow_shadowing)


def definitions(
    config: ServerConfig, secrets: Callable[[RepoName, str], str | None]
) -> Mapping[RepoName, RepoDefinition]:
    """Each repo with its secrets; `secrets(repo, field)` gives one in clear."""
    return {
        name: RepoDefinition(
            spec,
            Credentials(
                read=secrets(name, "read_secret"),
                write=secrets(name, "write_secret"),
                anonymous_read=spec.anonymous_read,
            ),
            secrets(name, "admin_secret"),
        )
        for name, spec in config.repos.items()
    }
