"""PURE. When a server must be reconciled again although no event reports a change."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from pywharf_operator.index_updates.runs import Runs
from pywharf_operator.index_updates.stuck import LINGERS_S
from pywharf_operator.reconciling.client_configs import Kept
from pywharf_operator.reconciling.observed import Observed
from pywharf_operator.render.resolve.access import next_end_s
from pywharf_operator.spec import ObjectKey
from pywharf_operator.status.served import Result, lacks_review_right

APIS_FOR_S: Final = 15.0
"""Seconds for which the cluster's optional kinds are cached; then the API server is asked again for missing ones."""
_RIGHTS_AGAIN_S: Final = 15.0
"""Seconds between checks whether replicas have a right that they lacked; no event reports a change of rights."""
_PODS_AGAIN_S: Final = 15.0
"""Seconds between checks why Jobs have no pods; no event reports that the reason has changed."""


def seconds_to_next(
    result: Result, runs: Runs, client_configs: Mapping[ObjectKey, Kept], observed: Observed, now: datetime
) -> list[float]:
    """Return the seconds until what no event reports may have changed, one for each such thing."""
    again = [refusal.retry_after_s for refusal in result.refusals]
    again += [one.again_s for one in client_configs.values() if one.again_s is not None]
    reasons = (
        (APIS_FOR_S, result.missing_kind is not None),
        (_PODS_AGAIN_S, runs.waits_for_pods),
        (LINGERS_S, runs.has_lingering(now)),
        (_RIGHTS_AGAIN_S, lacks_review_right(result)),
    )
    again += [wait_s for wait_s, applies in reasons if applies]
    return again + next_end_s(observed.repos, now)
