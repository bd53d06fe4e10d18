"""What is remembered of a server between two reconciles. It may be lost."""

from typing import Final

import msgspec

from pywharf_operator.reconciling.apply import Applier, Part
from pywharf_operator.render import Finding, RenderedServer
from pywharf_operator.status.programmed import ConfigHistory

_WAITS_S: Final = (0.2, 0.3, 0.5, 0.5, 1.0, 1.0, 2.0, 2.0, 5.0, 5.0, 10.0, 30.0)
"""Seconds between checks of replicas that do not serve the newest configuration yet."""
_UNREACHABLE_CHECKS: Final = 4
"""Consecutive checks from which an unreachable replica is reported; one that is starting or ending is not."""
_ANNOUNCED_AGAIN_AFTER: Final = 4
"""Checks after which a replica's kubelet is notified again."""


class Memory(msgspec.Struct):
    """The memory of one server. Only its reconcile changes it."""

    applier: Applier
    history: ConfigHistory
    refused: Part | None = None
    """The part of the newest configuration's rollout that could not be applied."""
    _digest: str = ""
    """The digest of the newest configuration."""
    _checks: int = 0
    """Number of checks that found replicas not serving it."""
    _lost: int = 0
    """Number of consecutive checks at which a ready replica could not be reached."""

    def remember(self, rendered: RenderedServer) -> None:
        """Remember the newest configuration; after a change of it the checks of the replicas start again."""
        self.history.remember(rendered.digest, rendered.contents)
        if self._digest != rendered.digest:
            self._digest, self._checks = rendered.digest, 0

    def reported_loss(self, lost: Finding | None) -> Finding | None:
        """Count a check. Return the finding about unreachable replicas once they have been so for several checks."""
        self._lost = 0 if lost is None else self._lost + 1
        return lost if self._lost >= _UNREACHABLE_CHECKS else None

    def next_check_s(self, *, waiting: bool) -> float | None:
        """Return the seconds to the next check of the replicas, longer each time; None if none is needed.

        `waiting`: whether a ready replica does not serve the newest configuration yet.
        """
        if not waiting and not self._lost:
            self._checks = 0
            return None
        wait_s = _WAITS_S[min(self._checks, len(_WAITS_S) - 1)]
        self._checks += 1
        return wait_s

    @property
    def announces_again(self) -> bool:
        """Whether the kubelets of late replicas are to be notified once more after this check."""
        return self._checks > 0 and self._checks % _ANNOUNCED_AGAIN_AFTER == 0
