"""Open one repo by its definition: its backend, its follower and the cache of its clients' permissions."""

from collections.abc import Callable

import msgspec

from pywharf.config.repo_config import BackendSpec
from pywharf.core.errors import InvalidConfigError
from pywharf.core.names import RepoName
from pywharf.index.follower import Follower
from pywharf.index.generations import Generations
from pywharf.index.lookups import UpstreamPolicy
from pywharf.index.ports import Backend
from pywharf.index.repository import Repository
from pywharf.index.shared_resources import SharedResources
from pywharf.index.upstream.source import Source
from pywharf.index.withheld_tally import WithheldTally
from pywharf.serving.definitions import RepoDefinition, source_field
from pywharf.serving.gatekeeper import Gatekeeper
from pywharf.serving.metrics import Metrics
from pywharf.serving.permission_cache import PermissionCache

BackendOpener = Callable[[BackendSpec, RepoName, str | None], Backend]


class OpenedRepo(msgspec.Struct, frozen=True):
    """A repo that is followed until its repository is closed, and the definition that it was opened by."""

    definition: RepoDefinition
    repository: Repository
    permissions: PermissionCache | None
    """The cached permissions, if the storage knows clients itself."""


class RepoOpener:
    """What it takes to open a repo, besides its definition."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        open_backend: BackendOpener,
        gatekeeper: Gatekeeper,
        shared: SharedResources,
        metrics: Metrics,
        *,
        extra_index_url: str,
        generations: Generations | None = None,
    ) -> None:
        self._open_backend = open_backend
        self._gatekeeper = gatekeeper
        self._shared = shared
        self._metrics = metrics
        self._extra_index_url = extra_index_url
        """The server's extra index, for the repos that name no other; "": none."""
        self._generations = generations
        """None: there is one worker."""

    @property
    def withheld(self) -> WithheldTally:
        """What policies withheld on the pages of all repos."""
        return self._shared.withheld

    def open(self, name: RepoName, definition: RepoDefinition) -> OpenedRepo:
        """Open the repo and begin to follow its storage. Raises InvalidConfigError, and what its backend raises."""
        spec = definition.spec
        upstream = upstream_policy(definition, self._extra_index_url)
        if upstream.is_cached:
            if self._shared.cache is None:
                raise InvalidConfigError(
                    "upstream.mode is Cached, and this server has no cache; start it with --cache_config, or set the "
                    "mode to Pages."
                )
            self._shared.cache.pages.use(name, upstream.sources)
        backend = self._open_backend(spec, name, definition.admin_secret)
        follower = Follower(
            name,
            backend,
            on_parse=self._metrics.parses.labels(name).inc,
            change_probes=self._shared.change_probes,
            generation=self._generations.of(name) if self._generations is not None else None,
        )
        repository = Repository(
            name,
            backend,
            follower,
            upstream=upstream,
            max_file_bytes=spec.max_file_bytes,
            shared=self._shared,
        )
        repository.start()
        return OpenedRepo(definition, repository, self._gatekeeper.cache_of(backend))


def upstream_policy(definition: RepoDefinition, default_url: str) -> UpstreamPolicy:
    """Return a repo's policy; its own URL or sources take precedence over the server's URL.

    Raises InvalidConfigError for credentials that HTTP cannot carry.
    """
    upstream = definition.spec.upstream
    url = upstream.url or default_url
    sources: tuple[Source, ...] = ()
    if upstream.mode != "None":
        sources = _sources(definition) if upstream.sources else (Source(url=url),) if url else ()
    return UpstreamPolicy(
        sources=sources,
        is_cached=upstream.mode == "Cached",
        reserved=upstream.reserved,
        allow_shadowing=upstream.allow_shadowing,
    )


def _sources(definition: RepoDefinition) -> tuple[Source, ...]:
    for number, credentials in enumerate(definition.source_credentials):
        if credentials is not None and ":" in credentials.username:
            raise InvalidConfigError(
                f"{source_field(number, 'username')} holds a colon, which ends a user name (RFC 7617); the index "
                "needs another one."
            )
    return tuple(
        Source(url=one.url, projects=one.projects, credentials=credentials)
        for one, credentials in zip(definition.spec.upstream.sources, definition.source_credentials, strict=True)
    )
