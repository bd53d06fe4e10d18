"""Which files were given out in the last 30 days, to report those that a new advisory is about."""

import asyncio
import hashlib
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Final

from pywharf.core.advisories.store import AdvisoryStore
from pywharf.core.filenames import version_of
from pywharf.core.names import ProjectName, RepoName

_logger = logging.getLogger(__name__)
_DAYS: Final = 30
_DAY_S: Final = 86_400
MAX_FILES: Final = 100_000
"""Files that are remembered, with about 300 bytes each; past it the one that was first given out longest ago goes."""
_MAX_LINES: Final = 100
"""Lines of the log for one feed."""
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

        `said` is a folder that all workers share, so that one line is logged for each file.
        """
        self._forget()
        kept = sorted(self._days)
        lines = 0
        done = 0
        for project, keys in groupby(sorted(kept, key=lambda key: key[1]), key=lambda key: key[1]):
            is_known = new.concerns(project)
            for repo, _, filename in keys:
                done += 1
                if done % _STEP == 0:
                    await asyncio.sleep(0)
                if is_known and await self._report_file((repo, project, filename), old, new, said, lines < _MAX_LINES):
                    lines += 1
        if lines > _MAX_LINES:
            _logger.warning("New advisories are about %d further files that were served.", lines - _MAX_LINES)

    async def _report_file(
        self, key: _Key, old: AdvisoryStore | None, new: AdvisoryStore, said: Path, is_logged: bool
    ) -> bool:
        """Report one file. Returns whether this worker is the one to log it."""
        repo, project, filename = key
        version = version_of(filename, project)
        before = {advisory.id for advisory in old.matching(project, version)} if old is not None else set()
        found = [advisory for advisory in new.matching(project, version) if advisory.id not in before]
        if not found:
            return False
        malware = any(advisory.is_malware for advisory in found)
        self._count(repo, "malware" if malware else "other")
        identifiers = sorted((advisory.id for advisory in found), key=lambda one: (not one.startswith("MAL-"), one))
        if not await asyncio.to_thread(_claim, said, f"{repo}/{project}/{filename}/{identifiers}"):
            return False
        if is_logged:
            day = datetime.fromtimestamp(self._days.get(key, 0) * _DAY_S, UTC).date().isoformat()
            _logger.warning(
                "New %s %s%s: repo %s served %s, last on %s.",
                "malware advisory" if malware else "advisory",
                ", ".join(identifiers[:5]),
                f" and {len(identifiers) - 5} more" if len(identifiers) > 5 else "",  # noqa: PLR2004
                repo,
                filename,
                day,
            )
        return True

    def _forget(self) -> None:
        """Forget the files that were last given out before that time."""
        oldest = int(self._clock()) // _DAY_S - _DAYS
        while self._days and next(iter(self._days.values())) < oldest:
            self._days.popitem(last=False)


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
