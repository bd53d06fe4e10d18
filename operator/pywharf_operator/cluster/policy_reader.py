"""The reader of policies. Each namespace's are read only up to a bound, and what cannot be read is reported as such."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Final

import msgspec

from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.cluster.live import is_being_deleted, key_of
from pywharf_operator.cluster.trimming import OVERSIZE
from pywharf_operator.render.resolve.findings import unlisted_advice
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
        taken: dict[str, int] = defaultdict(int)

        def keeps(raw: Json) -> bool:
            if is_being_deleted(raw) or not wanted(raw):
                return False
            own = key_of(raw).namespace
            taken[own] += len(msgspec.json.encode(raw.get("spec")))
            if taken[own] > _MOST_BYTES:
                raw["spec"], raw[OVERSIZE] = {}, {"message": _SHARE_OUT}
            return True

        try:
            items, version = await self._kube.listed(POLICY, namespace, only=keeps)
        except KubeError as error:
            if error.status != _FORBIDDEN:
                raise
            return None
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
