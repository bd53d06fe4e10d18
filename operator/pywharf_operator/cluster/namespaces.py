"""The watched namespaces: which of them the operator may not read, and whether those are gone.

With a Role per namespace, the API server returns HTTP 403 both when somebody removed the RoleBinding and when the
namespace was deleted with it. So nothing is concluded from a 403: objects from there stay as last known. See
docs/decisions/0020-metadata-of-secrets-and-unreadable-namespaces.md.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from cachetools import FIFOCache

from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.render.resolve.findings import unreadable_advice
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.kinds import NAMESPACE, Kind

T = TypeVar("T")
_logger = logging.getLogger(__name__)
FORBIDDEN: Final = 403
"""HTTP status of a request for which the account lacks the permission."""
_MOST_DELETED: Final = 50_000


class Namespaces:
    """The watched namespaces. `changed` is called with the unreadable ones each time they change."""

    def __init__(
        self,
        kube: Kube,
        watched: tuple[str, ...] | None,
        *,
        changed: Callable[[frozenset[str]], None] = lambda _names: None,
    ) -> None:
        self._kube = kube
        self.watched = watched
        """The names; None: all namespaces."""
        self._changed = changed
        self._refused: dict[str, set[str]] = {}
        """The kinds that may not be read, by namespace."""
        self._unlisted: frozenset[str] = frozenset()
        """Namespaces whose policies may not be listed."""
        self._deleted: FIFOCache[ObjectKey, None] = FIFOCache(_MOST_DELETED)
        """PackageRepos that the API server reported as deleted before their namespace became unreadable."""

    @property
    def unreadable(self) -> frozenset[str]:
        """The namespaces that could not be read at the last try, at least their policies; `*`: all namespaces."""
        return frozenset(self._refused) | self._unlisted

    def refusing(self, kind: Kind) -> frozenset[str]:
        """Return the namespaces whose objects of the kind could not be read at the last try."""
        return frozenset(name for name, kinds in self._refused.items() if kind.plural in kinds)

    async def each(
        self, kind: Kind, read: Callable[[str | None], Awaitable[list[Json]]]
    ) -> tuple[list[Json], frozenset[str]]:
        """Call `read` for every namespace; return all items, and the namespaces that may not be read. Raises KubeError.

        If none may be read, something else is wrong, so it raises, too.
        """
        if self.watched is None:
            return await read(None), frozenset()
        found = await asyncio.gather(
            *(self.reading(one, kind, read(one)) for one in self.watched), return_exceptions=True
        )
        items: list[Json] = []
        refused: dict[str, KubeError] = {}
        for name, one in zip(self.watched, found, strict=True):
            if isinstance(one, KubeError) and one.status == FORBIDDEN:
                refused[name] = one
            elif isinstance(one, BaseException):
                raise one
            else:
                items += one
        if refused and len(refused) == len(self.watched):
            raise next(iter(refused.values()))
        gone = await self._gone(refused)
        return items, frozenset(refused.keys() - gone)

    async def reading(self, namespace: str, kind: Kind, read: Awaitable[T]) -> T:
        """Await `read`, which reads objects of a kind in the namespace, and record whether it was permitted."""
        try:
            found = await read
        except KubeError as error:
            if error.status == FORBIDDEN:
                self._note(namespace, kind, error)
            raise
        self._note(namespace, kind, None)
        return found

    def policies_unlisted(self, names: frozenset[str | None]) -> None:
        """Record the namespaces whose policies may not be listed; None: all namespaces, which are listed together."""
        self._unlisted = frozenset("*" if name is None else name for name in names)
        self._changed(self.unreadable)

    def deleted(self, repos: Iterable[ObjectKey]) -> None:
        """Record that the API server reported these PackageRepos as deleted."""
        for key in repos:
            self._deleted[key] = None

    def seen(self, repo: ObjectKey) -> None:
        """Record that the API server reported this PackageRepo as existing."""
        self._deleted.pop(repo, None)

    def is_deleted(self, repo: ObjectKey) -> bool:
        """Return whether the PackageRepo is known to be gone, although its namespace cannot be read."""
        return repo in self._deleted

    async def _gone(self, names: Iterable[str]) -> set[str]:
        """Return the namespaces that no longer exist, as far as the account may read the Namespace itself."""
        gone = set()
        for name in names:
            try:
                if await self._kube.get_metadata(NAMESPACE, ObjectKey("", name)) is None:
                    gone.add(name)
            except KubeError as error:
                if error.status != FORBIDDEN:
                    raise
        return gone

    def _note(self, namespace: str, kind: Kind, error: KubeError | None) -> None:
        before = set(self._refused)
        if error is not None:
            self._refused.setdefault(namespace, set()).add(kind.plural)
        elif namespace in self._refused:
            self._refused[namespace].discard(kind.plural)
            if not self._refused[namespace]:
                del self._refused[namespace]
        if before == set(self._refused):
            return
        if error is not None:
            _logger.warning("%s The API server says: %s", unreadable_advice([namespace]), error)
        else:
            _logger.info("The namespace %s can be read again.", namespace)
            for key in [key for key in self._deleted if key.namespace == namespace]:
                del self._deleted[key]
        self._changed(self.unreadable)
