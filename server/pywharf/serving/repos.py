"""The repos that one server serves under its current configuration."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import msgspec

from pywharf.config.repo_config import BackendSpec, ServerConfig
from pywharf.config.settings import ServerSettings
from pywharf.core.access import Credentials, Permission, permission_of
from pywharf.core.errors import PywharfError, UnavailableError
from pywharf.core.names import RepoName
from pywharf.index.change_probes import ChangeProbes
from pywharf.index.generations import Generations
from pywharf.index.page_cache import PageCache
from pywharf.index.ports import Authority, Backend, RateLimited
from pywharf.index.repository import Repository, UpstreamPolicy
from pywharf.index.upstream.extra_index import ExtraIndex
from pywharf.serving.metrics import Metrics
from pywharf.serving.permission_cache import Nobody, PermissionCache
from pywharf.serving.refusals import Refusals
from pywharf.serving.slots import Slots

_logger = logging.getLogger(__name__)
_PAGE_CACHE_BYTES = 128 * 1024 * 1024
_FIRST_READ_S = 2.0
_READINESS_WAIT_S = 20.0
"""Seconds after the first configuration for which readiness waits for storages."""
_NOBODY_S = 30.0
"""Seconds for which a refusal for a nonexistent repo is cached, as any refusal is."""
_CLOSE_S = 5.0
"""Seconds for closing all storages when the server stops."""
_RETIRE_S = 60.0
"""Seconds for which requests may continue that began before a repo was replaced."""
_MAX_CONCURRENT_LOGINS = 32
_MAX_CONCURRENT_CHECKS = 2
"""Uploads whose archives are read concurrently, each by a thread that others must wait for."""


class RepoDefinition(msgspec.Struct, frozen=True):
    """One repo's configuration with its secrets in clear text."""

    spec: BackendSpec
    credentials: Credentials
    admin_secret: str | None

    def __repr__(self) -> str:
        """Return a text without the secrets."""
        return "RepoDefinition(...)"

    def is_same_but_for_credentials(self, other: "RepoDefinition") -> bool:
        """Return whether nothing differs, or only the credentials do."""
        return (_without_credentials(self.spec), self.admin_secret) == (
            _without_credentials(other.spec),
            other.admin_secret,
        )


def _without_credentials(spec: BackendSpec) -> BackendSpec:
    return msgspec.structs.replace(spec, read_secret=None, write_secret=None, anonymous_read=False)


class LoadedConfig(msgspec.Struct, frozen=True):
    """A complete configuration: every secret it names was found."""

    repos: Mapping[RepoName, RepoDefinition]
    digest: str
    """The digest of the texts, as replicas report it."""


Opener = Callable[[BackendSpec, RepoName, str | None], Backend]


NO_CREDENTIALS = Credentials()
"""Nobody's credentials. A nonexistent repo is compared with them, so that it takes as long as an existing one."""


class _Running(msgspec.Struct):
    definition: RepoDefinition
    repository: Repository
    task: asyncio.Task[None]
    grants: PermissionCache | None
    """The cached permissions, if the storage knows clients itself."""


class ServedRepos:
    """The owner of the repos: opens, follows and closes them. Use as an async context."""

    def __init__(
        self,
        settings: ServerSettings,
        open_backend: Opener,
        extra_index: ExtraIndex,
        metrics: Metrics,
        generations: Generations | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.digest = ""
        """The digest of the configuration served; "" before the first."""
        self._settled_at: float | None = None
        """Monotonic time after which no storage delays the server's readiness; None before a configuration."""
        self._open_backend = open_backend
        self._extra_index = extra_index
        self._pages = PageCache(_PAGE_CACHE_BYTES)
        self.uploads = Slots(settings.max_uploads, "uploads")
        """Each slot is held by a repo's name."""
        self.logins = Slots(_MAX_CONCURRENT_LOGINS, "logins")
        """Each slot is held by a client's address: anybody may send a login form."""
        self._change_probes = ChangeProbes()
        self._generations = generations
        """None: there is one worker."""
        self._checks = asyncio.Semaphore(_MAX_CONCURRENT_CHECKS)
        self._refusals = Refusals()
        self._nobody = PermissionCache(
            Nobody(self._refusals, self._is_plausible), _NOBODY_S, _NOBODY_S, refusals=self._refusals
        )
        self._running: dict[RepoName, _Running] = {}
        self._broken: dict[RepoName, str] = {}
        self._credentials: dict[RepoName, Credentials] = {}
        self._applying = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._retiring:
            task.cancel()
        closing = [asyncio.create_task(_close(running)) for running in self._running.values()]
        if closing or self._retiring:
            await asyncio.wait([*closing, *self._retiring], timeout=_CLOSE_S)

    def credentials(self, name: RepoName) -> Credentials:
        """Return the repo's secrets, which decide before anything else of it is shown; nobody's if it is unknown."""
        return self._credentials.get(name, NO_CREDENTIALS)

    def uses_storage_auth(self, name: RepoName) -> bool:
        """Return whether the repo has no secrets of its own, but a storage that knows clients itself."""
        running = self._running.get(name)
        return running is not None and running.grants is not None and not self.credentials(name).has_secrets

    async def permission_of(
        self, name: RepoName, secret: str | None, needed: Permission, address: str = ""
    ) -> Permission:
        """Return what the client at an address may do with a repo; `needed` limits the age of a cached answer.

        Raises UnavailableError if only the storage knows, and it cannot be asked.
        """
        if secret and self.uses_storage_auth(name):
            grants = self._running[name].grants
            return Permission.NONE if grants is None else await grants.permission(secret, needed, address)
        granted = permission_of(secret, self.credentials(name))
        if secret and granted is Permission.NONE and any(one.grants for one in self._running.values()):
            # Treat it as a repo whose storage is asked: neither response nor timing shows which names exist.
            return await self._nobody.permission(f"{name}:{secret}", needed, address)
        return granted

    def _is_plausible(self, named: str) -> bool:
        """Return whether the storage of any repo may know the secret in `named` (repo name, colon, secret)."""
        secret = named.partition(":")[2]
        authorities = (one.repository.backend for one in self._running.values() if one.grants is not None)
        return any(isinstance(one, Authority) and one.is_plausible(secret) for one in authorities)

    def repository(self, name: RepoName) -> Repository:
        """Return the repo of that name. Raises UnavailableError if it could not be opened or is being replaced."""
        running = self._running.get(name)
        if running is not None:
            return running.repository
        reason = self._broken.get(name)
        if reason is not None:
            raise UnavailableError(f"This repo cannot be opened: {reason}")
        raise UnavailableError("The configuration is being replaced; try again.")

    def is_ready(self) -> bool:
        """Return whether a configuration is served and, for a bounded time after the first one, each repo was read.

        A server that was ready stays ready: a later repo, or one whose storage hangs, must not block the others.
        """
        if self._settled_at is None:
            return False
        if self.loading() and time.monotonic() < self._settled_at:
            return False
        self._settled_at = 0.0
        return True

    def loading(self) -> int:
        """Return the number of repos whose first read of the storage has neither succeeded nor failed yet."""
        return sum(one.follower.failure is None and not one.follower.is_loaded for one in self.repositories)

    @property
    def repositories(self) -> list[Repository]:
        """Return the repos that could be opened."""
        return [running.repository for running in self._running.values()]

    @property
    def broken(self) -> Mapping[RepoName, str]:
        """Return the repos that could not be opened, and why."""
        return self._broken

    async def apply(self, config: LoadedConfig) -> None:
        """Serve this configuration.

        A repo of which only the credentials changed continues as it is. One of which more changed is replaced once its
        new storage was read, so that its clients notice nothing. If its credentials changed, too, the old repo stops
        immediately: the new credentials may be somebody else's and must never open what was there before.
        """
        async with self._applying:
            self.is_ready()  # if the server was ready, no repo of this configuration changes that
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
                    except Exception as error:  # from a third party's backend
                        _logger.exception("Repo %s cannot be opened.", name)
                        broken[name] = f"internal error ({type(error).__name__})."
                    else:
                        opened.append(running[name])
                # Immediately: revoked access must not last for as long as another repo's storage takes.
                credentials = {name: definition.credentials for name, definition in config.repos.items()}
                served = {
                    name: one
                    for name, one in self._running.items()
                    if running.get(name) is one or credentials.get(name) == self._credentials.get(name)
                }
                others = [one for name, one in self._running.items() if name not in served]
                self._running, self._credentials = served, credentials
                await self._retire(others)
                await _await_first_reads(opened)
            except BaseException:
                for one in opened:
                    await _close(one)
                raise
            gone = [one for name, one in self._running.items() if running.get(name) is not one]
            self._running, self._broken = running, broken
            self.digest = config.digest
            if self._settled_at is None:
                self._settled_at = time.monotonic() + _READINESS_WAIT_S
            await self._retire(gone)

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
            change_probes=self._change_probes,
            generation=self._generations.of(name) if self._generations is not None else None,
        )
        task = asyncio.create_task(repository.follower.run(), name=f"follow {name}")
        grants = None
        if isinstance(backend, Authority):
            grants = PermissionCache(
                backend, self.settings.auth_read_expires, self.settings.auth_write_expires, refusals=self._refusals
            )
        return _Running(definition, repository, task, grants)

    async def _retire(self, gone: list[_Running]) -> None:
        """Stop following the repos. Their backends close after `_RETIRE_S`, so that running requests can finish."""
        for one in gone:
            await _stop(one)
        if gone:
            task = asyncio.create_task(_close_later([one.repository.backend for one in gone]))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    def observe(self) -> None:
        """Update the gauges, just before they are read."""
        for repository in self.repositories:
            follower = repository.follower
            self.metrics.synchronised.labels(repository.name).set(0 if follower.failure else 1)
            backend = repository.backend
            if isinstance(backend, RateLimited) and backend.rate_limit is not None:
                self.metrics.rate_limit.labels(repository.name).set(backend.rate_limit.remaining)


async def _await_first_reads(opened: list[_Running]) -> None:
    """Wait until each storage was read, but not long: a slow one must not hold up the others."""
    looks = [asyncio.create_task(one.repository.follower.first_read()) for one in opened]
    if not looks:
        return
    try:
        await asyncio.wait(looks, timeout=_FIRST_READ_S)
    finally:
        for look in looks:
            look.cancel()


async def _stop(running: _Running) -> None:
    running.task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running.task


async def _close(running: _Running) -> None:
    await _stop(running)
    await running.repository.backend.aclose()


async def _close_later(backends: list[Backend]) -> None:
    """Close the backends after `_RETIRE_S`, or immediately when cancelled."""
    try:
        await asyncio.sleep(_RETIRE_S)
    finally:
        for backend in backends:
            await backend.aclose()


def upstream_policy(spec: BackendSpec, default_url: str) -> UpstreamPolicy:
    """Return a repo's policy; its own URL takes precedence over the server's."""
    upstream = spec.upstream
    url = (upstream.url or default_url or None) if upstream.mode == "Pages" else None
    return UpstreamPolicy(url=url, reserved=upstream.reserved, allow_shadowing=upstream.allow_shadowing)


def definitions(
    config: ServerConfig, secrets: Callable[[RepoName, str], str | None]
) -> Mapping[RepoName, RepoDefinition]:
    """Return each repo with its secrets; `secrets(repo, field)` returns one in clear text."""
    return {
        name: RepoDefinition(
            spec,
            Credentials(
                read=secrets(name, "read_secret"),
                write=secrets(name, "write_secret"),
                anonymous_read=spec.anonymous_read,
                storage=" ".join(str(getattr(spec, field)) for field in spec.place),
            ),
            secrets(name, "admin_secret"),
        )
        for name, spec in config.repos.items()
    }
