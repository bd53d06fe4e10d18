"""Read upload times that others wrote. Pure."""

from datetime import UTC, datetime

from pywharf.core.model import rfc3339


def of_text(text: str | None) -> float | None:
    """Return a time in RFC 3339 as Unix seconds; None if it is missing, unreadable or no time of this calendar."""
    try:
        time = datetime.fromisoformat(text or "")
        return of_seconds((time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None


def of_seconds(seconds: float) -> float | None:
    """Return Unix seconds unchanged; None if no record can hold them: a file's time may be any number."""
    try:
        rfc3339(seconds)
    except (ValueError, OverflowError, OSError):
        return None
    return seconds
