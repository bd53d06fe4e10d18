"""Read the lifetime of a URL that GitHub signs from its query."""

import base64
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qs, urlsplit

import msgspec

_LIFE_S = 60.0
"""Seconds assumed for a URL that does not state its lifetime."""
_LONGEST_S = 300.0
"""Most seconds assumed for a URL, even if it states more."""


def life_s(url: str) -> float:
    """Return the seconds that a signed URL remains valid: the shortest lifetime that its query states, in any form.

    Azure: `se`; Amazon: `X-Amz-Date`, `X-Amz-Expires`; GitHub itself: `exp` of `jwt`, which ends long before `se`.
    """
    query = {key.lower(): values[-1] for key, values in parse_qs(urlsplit(url).query).items()}
    now = time.time()
    ends: list[float] = []
    for name, end in _ENDS.items():
        if name in query:
            try:
                ends.append(end(query, now))
            except (ValueError, LookupError, TypeError, OverflowError, msgspec.MsgspecError):
                ends.append(now + _LIFE_S)
    return min([*ends, now + _LONGEST_S]) - now if ends else _LIFE_S


def _amazon_s(query: Mapping[str, str], now: float) -> float:
    since = query.get("x-amz-date")
    began = datetime.strptime(since, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp() if since else now
    return began + float(query["x-amz-expires"])


def _token_s(query: Mapping[str, str], _now: float) -> float:
    """Return the token's end. It is not verified: it states what the URL's author claims."""
    payload = query["jwt"].split(".")[1]
    return float(msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"])


_ENDS: Final[Mapping[str, Callable[[Mapping[str, str], float], float]]] = {
    "se": lambda query, _now: datetime.fromisoformat(query["se"]).timestamp(),
    "jwt": _token_s,
    "x-amz-expires": _amazon_s,
    "expires": lambda query, _now: float(query["expires"]),
}
"""Functions that read a URL's end in Unix seconds, by the query parameter that states it."""
