"""The reader of policies. Each namespace's are read only up to a bound, and what cannot be read is reported as such."""

import asyncio
import heapq
import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Final

import msgspec

from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.cluster.live import is_being_deleted, key_of
from pywharf_operator.cluster.trimming import OVERSIZE
from pywharf_operator.render.resolve.findings import unlisted_advice
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.kinds import POLICY

_logger = logging.getLogger(__name__)
_FORBIDDEN: Final = 403
_MOST_BYTES: Final = 3 * 1024**2
"""Most bytes of the policies of one namespace, as JSON: anybody who may write policies may write any number of them."""
_SHARE_OUT: Final = (
    f"The policies of the namespace have more than {_MOST_BYTES} bytes together, and this one is past that, so its "
    "version before stays in force, if there was one; delete policies of the namespace, or shorten them."
)


class ListedPolicies(msgspec.Struct, frozen=True):
    """The policies that were asked for, as far as they could be read."""

    items: list[Json]
    unlisted: frozenset[str] | None
    """Namespaces whose policies could not be read; None: all."""


class _Budget:
    """The bytes of one namespace's policies. The oldest that fit together are kept, in whatever order they come."""

    def __init__(self) -> None:
        self.refused: set[ObjectKey] = set()
        self._bytes = 0
        self._newest_first: list[_Entry] = []
        self._cutoff: _Age | None = None
        """The age of the oldest refused policy."""

    def add(self, raw: Json, *, is_wanted: bool) -> None:
        """Count a policy. Past the bound the newest ones are refused, and the content of their specs is dropped."""
        spec = raw.get("spec")
        key, size = key_of(raw), len(msgspec.json.encode(spec))
        age = (str(raw["metadata"].get("creationTimestamp") or ""), key)
        heapq.heappush(self._newest_first, _Entry(age, size, spec if is_wanted else None))
        self._bytes += size
        while self._newest_first and (self._bytes > _MOST_BYTES or self._is_past(self._newest_first[0].age)):
            newest = heapq.heappop(self._newest_first)
            self._bytes -= newest.size
            self._cutoff = newest.age
            self.refused.add(newest.age[1])
            if isinstance(newest.spec, dict):
                newest.spec.clear()

    def _is_past(self, age: "_Age") -> bool:
        return self._cutoff is not None and age > self._cutoff


_Age = tuple[str, ObjectKey]


class _Entry(msgspec.Struct, frozen=True):
    age: _Age
    size: int
    spec: object

    def __lt__(self, other: "_Entry") -> bool:
        """Order by age, the newest first."""
        return self.age > other.age


class PolicyReader:
    """Lists policies of the watched namespaces; `watched` None: of all.

    Nothing is concluded from a refusal, nor from a cluster that lacks the kind: then no policy is known to be gone.
    `changed` is called with the namespaces whose policies cannot be listed (None: all) each time they change.
    """

    def __init__(
        self,
        kube: Kube,
        watched: tuple[str, ...] | None,
        changed: Callable[[frozenset[str | None]], None] = lambda _refused: None,
    ) -> None:
        self._kube = kube
        self._watched = watched
        self._changed = changed
        self._reported: frozenset[str | None] = frozenset()

    async def read(self, wanted: Callable[[Json], bool]) -> ListedPolicies:
        """List the policies that `wanted` accepts and that are not being deleted. Raises KubeError."""
        where: tuple[str | None, ...] = self._watched if self._watched is not None else (None,)
        found = await asyncio.gather(*(self._listed(one, wanted) for one in where))
        refused = frozenset(one for one, items in zip(where, found, strict=True) if items is None)
        self._report(refused)
        items = [item for listed in found for item in listed or ()]
        return ListedPolicies(items, None if None in refused else frozenset(one for one in refused if one is not None))

    async def _listed(self, namespace: str | None, wanted: Callable[[Json], bool]) -> list[Json] | None:
        budgets: dict[str, _Budget] = defaultdict(_Budget)

        def keeps(raw: Json) -> bool:
            if is_being_deleted(raw):
                return False
            # Each policy counts, also those that are not wanted, so that every pass refuses the same ones.
            is_wanted = wanted(raw)
            budgets[key_of(raw).namespace].add(raw, is_wanted=is_wanted)
            return is_wanted

        try:
            items, version = await self._kube.listed(POLICY, namespace, only=keeps, again=budgets.clear)
        except KubeError as error:
            if error.status != _FORBIDDEN:
                raise
            return None
        for item in items:
            if key_of(item) in budgets[key_of(item).namespace].refused:
                item["spec"], item[OVERSIZE] = {}, {"message": _SHARE_OUT}
        return items if version else None

    def _report(self, refused: frozenset[str | None]) -> None:
        if refused == self._reported:
            return
        self._reported = refused
        if refused:
            _logger.warning("%s", unlisted_advice(one for one in refused if one is not None))
        else:
            _logger.info("PackagePolicies can be read again.")
        self._changed(refused)
