"""Write the records of many files that have none, in groups: syncing each takes most of a first scan.

The files of a group are written under temporary names in the staging folder and synced together; only then they get
their names. So after a crash each is whole or missing. Missing ones are made again by the next scan, and alike.
Blocking; call it in a thread.
"""

import contextlib
import os
from pathlib import Path

import msgspec

from pywharf.backends.file_system.stamp import Status, status_of
from pywharf.disk.durable import place_new, sync_group

_GROUP = 2_000
"""Files that are synced together."""


class Written(msgspec.Struct, frozen=True):
    """A file under its temporary name."""

    temporary: str
    final: str
    status: Status
    replaces: bool


def write_new(staging: str, final: str, content: bytes, *, replaces: bool = False) -> Written:
    """Write a file that will be named `final`. Raises OSError."""
    temporary = f"{staging}/{os.urandom(16).hex()}.tmp"
    # A file object takes as long again as all the calls of the system.
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(fd, left) :]
        return Written(temporary, final, status_of(os.fstat(fd)), replaces)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


class NewRecords:
    """The new files of one scan. `commit` gives the last group its names; `discard` removes it."""

    def __init__(self, staging: Path, lock: Path) -> None:
        self._staging = staging
        self._lock = lock
        self._group: list[Written] = []
        self._placed: dict[str, Status | None] = {}

    def add(self, written: "Written") -> None:
        """Add a file to the group. Raises OSError."""
        self._group.append(written)
        if len(self._group) >= _GROUP:
            self.commit()

    def commit(self) -> None:
        """Make the group durable, and give its files their names. Raises OSError."""
        if not self._group:
            return
        try:
            sync_group(self._staging, (Path(written.temporary) for written in self._group))
            for written in self._group:
                self._placed[written.final] = self._place(written)
        except BaseException:
            self.discard()
            raise
        self._group = []

    def discard(self) -> None:
        """Remove what is left of the group under temporary names."""
        group, self._group = self._group, []
        for written in group:
            Path(written.temporary).unlink(missing_ok=True)

    def take_placed(self) -> dict[str, Status | None]:
        """Return the files placed since the last call, each with its status before; None for names that were taken."""
        placed, self._placed = self._placed, {}
        return placed

    def _place(self, written: Written) -> Status | None:
        if written.replaces:
            os.replace(written.temporary, written.final)  # noqa: PTH105 - a Path takes as long as the call
            return written.status
        try:
            place_new(written.temporary, written.final, self._lock)
        except FileExistsError:  # an upload of the same file was faster; its record may say more
            return None
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(written.temporary)  # noqa: PTH108 - as above
        return written.status
