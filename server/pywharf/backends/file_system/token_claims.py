"""Keep the names of tokens that were used up or burned: an empty file for each, `tokens/<digit>/<name>`. Blocking.

A file's modification time is the moment at which its claim ends, so no file is ever read.
"""

import contextlib
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from pywharf.disk.durable import fsync_file, fsync_folder, open_fresh, place_new, write_temporary
from pywharf.index.claims_in_memory import END_MARGIN_S, too_many_claims

_DIGITS = "0123456789abcdef"
MAX_IN_FOLDER = 4096
"""Most claims of one of the sixteen folders."""


class TokenClaims:
    """The claims of one repo (see Claims). Any number of servers and jobs may use the folder concurrently."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder / "tokens"
        self._lock = folder / "lock"
        self._clock = clock

    def claim(self, name: str, until: int) -> bool:
        """Claim a name durably; return False if it is claimed. Raises UnavailableError if the folder is full."""
        folder = self._make(name)
        if self._count(folder) >= MAX_IN_FOLDER:
            self._remove_ended(folder)
            if self._count(folder) >= MAX_IN_FOLDER:
                raise too_many_claims()
        staged = write_temporary(folder, b"", durably=False)
        try:
            os.utime(staged, (until, until))
            fsync_file(staged)
            place_new(staged, folder / name, self._lock)
        except FileExistsError:
            return False
        finally:
            staged.unlink(missing_ok=True)
        fsync_folder(folder)
        return True

    def is_claimed(self, name: str) -> bool:
        """Return whether the name was claimed."""
        try:
            open_fresh(self._path(name)).close()
        except FileNotFoundError:
            return False
        return True

    def remove_ended(self) -> None:
        """Remove the claims that ended."""
        for digit in _DIGITS:
            folder = self._folder / digit
            if folder.is_dir():
                self._remove_ended(folder)

    def _path(self, name: str) -> Path:
        return self._folder / name[0] / name

    def _make(self, name: str) -> Path:
        """Return the folder of the name's claim, which exists, durably, too."""
        folder = self._path(name).parent
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            fsync_folder(self._folder)
            fsync_folder(self._folder.parent)
        return folder

    @staticmethod
    def _count(folder: Path) -> int:
        with os.scandir(folder) as found:
            return sum(1 for _ in found)

    def _remove_ended(self, folder: Path) -> None:
        """Remove the claims of one folder that ended, and what killed calls left there."""
        before = self._clock() - END_MARGIN_S
        for path in [*folder.iterdir()]:
            with contextlib.suppress(FileNotFoundError):  # another server or job removed it
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and status.st_mtime < before:
                    path.unlink()
