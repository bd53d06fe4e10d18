"""Find when the files of a project are old enough for cooldowns."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from pywharf.core.model import File
from pywharf.core.policy.model import Cooldown
from pywharf.core.policy.upload_times import LAST_SECOND, unix_seconds

FirstSeen = Callable[[File], float | None]
"""Return the Unix seconds when a file was first seen, or None if that is not known."""

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class Maturity:
    """Finds until when files are too young, as of one moment. A file is named by its position."""

    def __init__(
        self, files: Sequence[File], cooldowns: Iterable[Cooldown], now: float, first_seen: FirstSeen | None
    ) -> None:
        self._files = files
        self._longest = max((cooldown.minimum_age_s for cooldown in cooldowns), default=0)
        self._now = now
        self._first_seen = first_seen
        self._seen: dict[int, float | None] = {}

    def end(self, position: int, cooldown: Cooldown) -> float:
        """Return the Unix seconds when a file is old enough; infinity: never; minus infinity: it is so now."""
        time = self._uploaded[position]
        if time is None:
            time = self._without_time(position, cooldown)
        end = time + cooldown.minimum_age_s
        if end > self._now:
            return end if end <= LAST_SECOND else math.inf
        return -math.inf

    def reason(self, position: int, cooldown: Cooldown) -> str:
        """Return why a file is withheld that is not old enough."""
        if self._uploaded[position] is not None:
            return f"younger than {_duration(cooldown.minimum_age_s)}"
        missing = self._files[position].upload_time is None
        reason = "its upload time is missing" if missing else "its upload time cannot be read"
        if cooldown.missing_time == "Deny":
            return reason
        if self._sight(position) is None:
            return f"{reason}, and when it was first seen is not known"
        return f"{reason}, and it was first seen less than {_duration(cooldown.minimum_age_s)} ago"

    def endless(self, cooldown: Cooldown) -> Iterator[tuple[int, str]]:
        """Yield the files that are never old enough, and why."""
        positions = self._late if cooldown.missing_time == "Allow" else (*self._late, *self._undated)
        for position in positions:
            if self.end(position, cooldown) == math.inf:
                yield position, self.reason(position, cooldown)

    def is_shared(self, position: int, cooldown: Cooldown) -> bool:
        """Return whether a file that is old enough for one cooldown is so for all shorter ones that end."""
        return self._uploaded[position] is not None or cooldown.missing_time != "Allow"

    def _without_time(self, position: int, cooldown: Cooldown) -> float:
        if cooldown.missing_time == "Allow":
            return -math.inf
        seen = None if cooldown.missing_time == "Deny" else self._sight(position)
        return math.inf if seen is None else seen

    def _sight(self, position: int) -> float | None:
        if self._first_seen is None:
            return None
        if position not in self._seen:
            self._seen[position] = self._first_seen(self._files[position])
        return self._seen[position]

    @functools.cached_property
    def _uploaded(self) -> list[float | None]:
        return [None if file.upload_time is None else unix_seconds(file.upload_time) for file in self._files]

    @functools.cached_property
    def _undated(self) -> list[int]:
        return [position for position, time in enumerate(self._uploaded) if time is None]

    @functools.cached_property
    def _late(self) -> list[int]:
        """The files that may be too young until after the last second that can be written."""
        last = LAST_SECOND - self._longest
        return [position for position, time in enumerate(self._uploaded) if time is not None and time > last]


def _duration(seconds: int) -> str:
    """Write a duration in the largest unit that needs no fraction.

    >>> _duration(604_800)
    '7d'
    """
    size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0)
    return f"{seconds // size}{unit}"
