"""The repos that one server serves under its current configuration: open, replace and retire them."""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

import msgspec

from pywharf.core.access.secrets import Credentials
from pywharf.core.errors import PywharfError, UnavailableError
from pywharf.core.names import RepoName
from pywharf.core.reports import WithheldCount
from pywharf.index.repository import Repository
from pywharf.serving.definitions import NO_POLICIES, LoadedConfig, ServedPolicies
from pywharf.serving.gatekeeper import Gatekeeper
from pywharf.serving.metrics import Metrics
from pywharf.serving.opened_repo import OpenedRepo, RepoOpener

_logger = logging.getLogger(__name__)
_FIRST_READ_S = 2.0
_READINESS_WAIT_S = 20.0
"""Seconds after the first configuration for which readiness waits for storages."""
_CLOSE_S = 5.0
"""Seconds for closing all storages when the server stops."""
_RETIRE_S = 60.0
"""Seconds for which requests may continue that began before a repo was replaced."""


class _Change(msgspec.Struct):
    """What a new configuration makes of the repos."""

    repos: dict[RepoName, OpenedRepo] = msgspec.field(default_factory=dict)
    """The repos to serve, those included that continue as they are."""
    opened: list[OpenedRepo] = msgspec.field(default_factory=list)
    """Those that the configuration opened."""
    broken: dict[RepoName, str] = msgspec.field(default_factory=dict)


class ServedRepos:
    """The owner of the repos: opens, follows and closes them. Use as an async context."""

    def __init__(
        self,
        opener: RepoOpener,
        gatekeeper: Gatekeeper,
        metrics: Metrics,
        is_waiting: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wait with readiness while `is_waiting` returns True, but no longer than for a storage."""
        self.digest = ""
        """The digest of the configuration served; "" before the first."""
        self._opener = opener
        self.tally = opener.withheld
        """What policies withheld on the pages of all repos."""
        self._gatekeeper = gatekeeper
        self._metrics = metrics
        self._is_waiting = is_waiting
        self._settled_at: float | None = None
        """Monotonic time after which no storage delays the server's readiness; None before a configuration."""
        self._served: Mapping[RepoName, OpenedRepo] = {}
        self._broken: Mapping[RepoName, str] = {}
        self._policies: ServedPolicies = NO_POLICIES
        self._applying = asyncio.Lock()
        self._retiring: dict[asyncio.Task[None], list[Repository]] = {}
        """The tasks that close repos which are no longer served, but whose requests may still run."""
        self._ends = asyncio.Event()
        """Set when the server stops: what is retired closes immediately."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        closing = [asyncio.create_task(one.aclose()) for one in self.repositories]
        if closing or self._retiring:
            await asyncio.wait([*closing, *self._retiring], timeout=_CLOSE_S)

    def repository(self, name: RepoName) -> Repository:
        """Return the repo of that name. Raises UnavailableError if it could not be opened or is being replaced."""
        served = self._served.get(name)
        if served is not None:
            return served.repository
        reason = self._broken.get(name)
        if reason is not None:
            raise UnavailableError(f"This repo cannot be opened: {reason}")
        raise UnavailableError("The configuration is being replaced; try again.")

    @property
    def repositories(self) -> list[Repository]:
        """Return the repos that could be opened."""
        return [one.repository for one in self._served.values()]

    @property
    def broken(self) -> Mapping[RepoName, str]:
        """Return the repos that could not be opened, and why."""
        return self._broken

    def is_ready(self) -> bool:
        """Return whether a configuration is served and, for a bounded time after the first one, each repo was read.

        The first feed of advisories counts as a repo does.

        A server that was ready stays ready: a later repo, or one whose storage hangs, must not block the others.
        """
        if self._settled_at is None:
            return False
        if (self.loading() or self._is_waiting()) and time.monotonic() < self._settled_at:
            return False
        self._settled_at = 0.0
        return True

    def loading(self) -> int:
        """Return the number of repos whose first read of the storage has neither succeeded nor failed yet."""
        return sum(one.status().state == "loading" for one in self.repositories)

    def failing(self) -> int:
        """Return the number of repos that could not be opened, or whose last read of the storage failed."""
        return len(self._broken) + sum(one.status().state == "failing" for one in self.repositories)

    def observe(self) -> None:
        """Update the gauges, just before they are read."""
        for repository in self.repositories:
            status = repository.status()
            self._metrics.synchronised.labels(repository.name).set(0 if status.failure else 1)
            if status.rate_limit is not None:
                self._metrics.rate_limit.labels(repository.name).set(status.rate_limit.remaining)
        failing = {one.url for repository in self.repositories for one in repository.failing_sources()}
        self._metrics.failing_sources.set(len(failing))
        self._metrics.set_withheld(self.tally.by_rule())

    def withheld(self) -> dict[str, WithheldCount]:
        """Return how much each policy of this configuration withholds, on the pages that this worker made lately."""
        names = {policy.name for policy in self._policies.document.policies}
        return {name: count for name, count in self.tally.by_policy().items() if name in names}

    def _enforce(self, repositories: Iterable[Repository]) -> None:
        """Have the repos apply the policies of this configuration, in one step."""
        for repository in repositories:
            repository.enforce(self._policies.by_repo.get(repository.name))

    async def apply(self, config: LoadedConfig) -> None:
        """Serve this configuration.

        A repo of which only the credentials changed continues as it is. One of which more changed is replaced once its
        new storage was read, so that its clients notice nothing. If its credentials changed, too, the old repo stops
        immediately: the new credentials may be somebody else's and must never open what was there before. Policies
        apply immediately, also to a repo that is served until its replacement is ready, and reopen nothing.
        """
        async with self._applying:
            self.is_ready()  # if the server was ready, no repo of this configuration changes that
            credentials = {name: definition.credentials for name, definition in config.repos.items()}
            change = _Change()
            try:
                self._open_changed(config, change)
                # Immediately: revoked access must not last for as long as another repo's storage takes, nor may what a
                # new policy withholds be served for as long.
                self._take_policies(config, change.opened)
                await self._serve(self._still_allowed(change.repos, credentials), credentials)
                await _await_first_reads(change.opened)
            except BaseException:
                for one in change.opened:
                    await one.repository.aclose()
                raise
            self._broken, self.digest = change.broken, config.digest
            if self._settled_at is None:
                self._settled_at = time.monotonic() + _READINESS_WAIT_S
            await self._serve(change.repos, credentials)

    def _take_policies(self, config: LoadedConfig, opened: Iterable[OpenedRepo]) -> None:
        """Apply the policies to all repos, those included that are not served yet, or no longer to new requests."""
        document = self._policies.document
        before = {policy.name: policy for policy in document.policies}
        self._policies = config.policies
        retired = itertools.chain.from_iterable(self._retiring.values())
        self._enforce([*self.repositories, *(one.repository for one in opened), *retired])
        unchanged = set(before)
        if self._policies.document is not document:
            unchanged = {
                policy.name for policy in self._policies.document.policies if before.get(policy.name) == policy
            }
        self.tally.retain(unchanged, config.repos)

    def _open_changed(self, config: LoadedConfig, change: _Change) -> None:
        """Open each repo of which more than the credentials changed; keep the others."""
        for name, definition in config.repos.items():
            now = self._served.get(name)
            if now is not None and now.definition.is_same_but_for_credentials(definition):
                change.repos[name] = now
                continue
            try:
                opened = self._opener.open(name, definition)
            except PywharfError as error:
                # Only this repo is out of service.
                _logger.error("Repo %s cannot be opened: %s", name, error)  # noqa: TRY400
                change.broken[name] = str(error)
            except Exception as error:  # from a third party's backend
                _logger.exception("Repo %s cannot be opened.", name)
                change.broken[name] = f"internal error ({type(error).__name__})."
            else:
                change.repos[name] = opened
                change.opened.append(opened)

    def _still_allowed(
        self, repos: Mapping[RepoName, OpenedRepo], credentials: Mapping[RepoName, Credentials]
    ) -> Mapping[RepoName, OpenedRepo]:
        """Return the repos that may be served until their replacements are: those whose clients stay the same."""
        return {
            name: one
            for name, one in self._served.items()
            if repos.get(name) is one or credentials.get(name) == self._gatekeeper.credentials(name)
        }

    async def _serve(self, repos: Mapping[RepoName, OpenedRepo], credentials: Mapping[RepoName, Credentials]) -> None:
        """Serve these repos to the clients that these credentials allow, in one step; then retire the others."""
        gone = [one for name, one in self._served.items() if repos.get(name) is not one]
        self._served = repos
        caches = {name: one.permissions for name, one in repos.items() if one.permissions is not None}
        self._gatekeeper.replace(credentials, caches)
        await self._retire([one.repository for one in gone])

    async def _retire(self, gone: list[Repository]) -> None:
        """Stop following the repos. Their backends close after `_RETIRE_S`, so that running requests can finish."""
        if gone:
            task = asyncio.create_task(_close_later(gone, self._ends))
            self._retiring[task] = gone
            task.add_done_callback(self._retiring.pop)
        for one in gone:
            await one.stop()


async def _await_first_reads(opened: Iterable[OpenedRepo]) -> None:
    """Wait until each storage was read, but not long: a slow one must not hold up the others."""
    reads = [asyncio.create_task(one.repository.first_read()) for one in opened]
    if not reads:
        return
    try:
        await asyncio.wait(reads, timeout=_FIRST_READ_S)
    finally:
        for read in reads:
            read.cancel()


async def _close_later(gone: Iterable[Repository], ends: asyncio.Event) -> None:
    """Close the repos after `_RETIRE_S`, or when `ends` is set. A task that is cancelled early would close nothing."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_RETIRE_S):
            await ends.wait()
    for one in gone:
        await one.aclose()
