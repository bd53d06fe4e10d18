"""Which files were given out in the last 30 days, to report those that a new advisory is about."""

import asyncio
import hashlib
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pywharf.core.advisories.store import AdvisoryStore
from pywharf.core.filenames import version_of
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.policy.advisories import Advisory

_logger = logging.getLogger(__name__)
_DAYS: Final = 30
_DAY_S: Final = 86_400
MAX_FILES: Final = 100_000
"""Files that are remembered, with about 300 bytes each; past it the one that was first given out longest ago goes."""
_MAX_LINES: Final = 100
"""Lines of the log for one feed."""
_SHOWN: Final = 5
"""Identifiers in one line."""
_STEP: Final = 50
"""Files that are compared before other work of the event loop gets its turn."""

_Key = tuple[RepoName, ProjectName, str]


class ServedFiles:
    """The files that this worker has given out, each with the last day on which it did."""

    def __init__(self, count: Callable[[str, str], None], clock: Callable[[], float] = time.time) -> None:
        """Call `count` with a repo and `malware` or `other` for each file that a new advisory is about."""
        self._count = count
        self._clock = clock
        self._days: OrderedDict[_Key, int] = OrderedDict()

    def note(self, repo: RepoName, project: ProjectName, filename: str) -> None:
        """Note that a file is given out. It is called for each download."""
        key = (repo, project, filename)
        today = int(self._clock()) // _DAY_S
        if self._days.get(key) == today:
            return
        self._days[key] = today
        self._days.move_to_end(key)
        if len(self._days) > MAX_FILES:
            self._days.popitem(last=False)

    async def report(self, old: AdvisoryStore | None, new: AdvisoryStore, said: Path) -> None:
        """Count and log each file of the last 30 days with an advisory that was not about it in the old feed.

        `said` is a folder that all workers share, so that one of them logs each line.
        """
        self._forget()
        found = 0
        for step, key in enumerate(list(self._days)):
            if step % _STEP == 0:
                await asyncio.sleep(0)
            advisories = _new_ones(key, old, new)
            if not advisories:
                continue
            self._count(key[0], "malware" if any(one.is_malware for one in advisories) else "other")
            identifiers = [one.id for one in sorted(advisories, key=lambda one: (not one.is_malware, one.id))]
            if found >= _MAX_LINES:
                found += 1
            elif await asyncio.to_thread(_claim, said, f"{key} {identifiers}"):
                found += 1
                self._log(key, identifiers)
        if found > _MAX_LINES:
            _logger.warning("New advisories are about %d further files that were served.", found - _MAX_LINES)

    def _log(self, key: _Key, identifiers: Sequence[str]) -> None:
        repo, _, filename = key
        more = len(identifiers) - _SHOWN
        _logger.warning(
            "New advisory %s%s: repo %s served %s, last on %s.",
            ", ".join(identifiers[:_SHOWN]),
            f" and {more} more" if more > 0 else "",
            repo,
            filename,
            datetime.fromtimestamp(self._days.get(key, 0) * _DAY_S, UTC).date().isoformat(),
        )

    def _forget(self) -> None:
        """Forget the files that were last given out more than 30 days ago."""
        oldest = int(self._clock()) // _DAY_S - _DAYS
        while self._days and next(iter(self._days.values())) < oldest:
            self._days.popitem(last=False)


def _new_ones(key: _Key, old: AdvisoryStore | None, new: AdvisoryStore) -> list[Advisory]:
    _, project, filename = key
    if not new.concerns(project):
        return []
    version = version_of(filename, project)
    before = {advisory.id for advisory in old.matching(project, version)} if old is not None else set()
    return [advisory for advisory in new.matching(project, version) if advisory.id not in before]


def _claim(folder: Path, text: str) -> bool:
    """Return whether no worker has logged this yet. Blocks for a moment."""
    name = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()
    try:
        folder.mkdir(exist_ok=True)
        os.close(os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    except OSError:  # rather twice than never
        return True
    return True
