"""Namespaces that the operator is to look after and may not read: which they are, and whether they are gone.

With a Role in each namespace, HTTP 403 is the answer both where somebody removed the RoleBinding and where the
namespace was deleted with it. So nothing is concluded from it: what came from there stays as it was last known. See
docs/decisions/0020-metadata-of-secrets-and-unreadable-namespaces.md.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.render.resolve.findings import unreadable_advice
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.kinds import NAMESPACE, Kind

T = TypeVar("T")
_logger = logging.getLogger(__name__)
FORBIDDEN: Final = 403
"""What the API server answers where an account may not do what it asks for."""
_MOST_DELETED: Final = 50_000


class Namespaces:
    """Those that are watched. `changed` is told the unreadable ones, each time that they change."""

    def __init__(
        self,
        kube: Kube,
        watched: tuple[str, ...] | None,
        *,
        changed: Callable[[frozenset[str]], None] = lambda _names: None,
    ) -> None:
        self._kube = kube
        self.watched = watched
        """None: all."""
        self._changed = changed
        self._refused: dict[str, set[str]] = {}
        """By namespace, the kinds that may not be read there."""
        self._deleted: dict[ObjectKey, None] = {}
        """PackageRepos of whose deletion the API server told before it could be read no more."""

    @property
    def unreadable(self) -> frozenset[str]:
        """Those that could not be read at the last try."""
        return frozenset(self._refused)

    def refusing(self, kind: Kind) -> frozenset[str]:
        """Those whose objects of the kind could not be read at the last try."""
        return frozenset(name for name, kinds in self._refused.items() if kind.plural in kinds)

    async def each(
        self, kind: Kind, read: Callable[[str | None], Awaitable[list[Json]]]
    ) -> tuple[list[Json], frozenset[str]]:
        """What `read` gives for every namespace, and the namespaces that may not be read. Raises KubeError.

        Where none may be read, something else is wrong, so that it raises, too.
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
        """Await what reads objects of a kind in the namespace, and note whether it may be read."""
        try:
            found = await read
        except KubeError as error:
            if error.status == FORBIDDEN:
                self._note(namespace, kind, error)
            raise
        self._note(namespace, kind, None)
        return found

    def deleted(self, repos: Iterable[ObjectKey]) -> None:
        """The API server said that these PackageRepos were deleted."""
        for key in repos:
            self._deleted[key] = None
        while len(self._deleted) > _MOST_DELETED:
            del self._deleted[next(iter(self._deleted))]

    def seen(self, repo: ObjectKey) -> None:
        """The API server said that this PackageRepo is there."""
        self._deleted.pop(repo, None)

    def is_deleted(self, repo: ObjectKey) -> bool:
        """Whether the PackageRepo is known to be gone, though its namespace cannot be read."""
        return repo in self._deleted

    async def _gone(self, names: Iterable[str]) -> set[str]:
        """Those that do not exist any more, as far as the account may ask for the Namespace itself."""
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
