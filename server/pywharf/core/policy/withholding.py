"""Show a withheld file to clients: in a JSON page, and as the error of its download."""

import math
from datetime import UTC, datetime

from pywharf.core.errors import WithheldError
from pywharf.core.policy.evaluation import Withheld

_LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
"""The last moment that can be written. An index of anybody may name upload times as late as it wants."""


def end_of(withheld: Withheld) -> str | None:
    """Return until when a file is withheld, as RFC 3339 in whole seconds, rounded up; None: without end."""
    if withheld.until is None:
        return None
    seconds = max(0.0, min(withheld.until, _LAST))
    return datetime.fromtimestamp(math.ceil(seconds), UTC).isoformat().replace("+00:00", "Z")


def entry_of(withheld: Withheld) -> dict[str, str | None]:
    """Return what a JSON page says about a withheld file."""
    return {
        "filename": withheld.filename,
        "policy": withheld.policy,
        "rule": withheld.rule,
        "reason": withheld.reason,
        "until": end_of(withheld),
    }


def refusal_of(withheld: Withheld) -> WithheldError:
    """Return the error for the download of a withheld file."""
    return WithheldError(policy=withheld.policy, rule=withheld.rule, reason=withheld.reason, until=end_of(withheld))
