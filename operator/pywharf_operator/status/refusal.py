"""PURE. Objects that could not be changed, as conditions report them."""

from collections.abc import Sequence

import msgspec

from pywharf_operator.cluster.remedies import with_remedy
from pywharf_operator.render import Finding
from pywharf_operator.render.labels import Manifest
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.kinds import CRON_JOB

_SHOWN = 3
"""Maximum number of objects that one message names."""


class Refusal(msgspec.Struct, frozen=True):
    """An object that differs from the desired state and could not be changed."""

    object: str
    """`Kind namespace/name`."""
    reason: str
    """A reason of the server's condition Ready."""
    message: str
    retry_after_s: float
    """Seconds after which a retry may succeed."""


def refused_objects(refusals: Sequence[Refusal]) -> Finding | None:
    """Return the finding about a server's objects that could not be changed; None without any."""
    if not refusals:
        return None
    listed = " ".join(f"{one.object}: {one.message}" for one in refusals[:_SHOWN])
    more = len(refusals) - _SHOWN
    message = listed + (f" And {more} more." if more > 0 else "")
    return Finding(status=False, reason=refusals[0].reason, message=message)


def refused_job(cron_job: Manifest, refusals: Sequence[Refusal]) -> Finding | None:
    """Return the finding for a repo's owner, who may not see the server, if its CronJob is refused; otherwise None."""
    name = f"{CRON_JOB.name} {ObjectKey(cron_job['metadata']['namespace'], cron_job['metadata']['name'])}"
    refusal = next((one for one in refusals if one.object == name and one.reason == "ApplyRefused"), None)
    if refusal is None:
        return None
    return Finding(status=False, reason="UpdateStuck", message=f"{name}: {with_remedy(refusal.message)}")
