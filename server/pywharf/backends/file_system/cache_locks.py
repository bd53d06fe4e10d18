"""The locks of the pull-through cache: a file for each, which says who took it and when it ends. Blocking.

A lock is taken and released while a guard is locked by the operating system, so of concurrent calls one succeeds. The
guard is held for milliseconds and freed by a crash; the lock itself is free again when its time is over.
"""

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from pywharf.backends.file_system.cache_layout import is_digest, make_folder, path_of, replace, unlink_if_there
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.disk.durable import locked, open_fresh

LONGEST_S = 86400.0
"""Seconds of the longest lock. An end beyond that was written by a clock that was wrong, and is ignored."""
_KEPT_S = 3600.0
"""Seconds after its end that a lock's file is removed."""
_MAX_BYTES = 256


@warmed_up
class _Taken(msgspec.Struct, frozen=True):
    owner: str
    end: float
    """Unix seconds."""


class CacheLocks:
    """The locks of one cache, as one process takes them."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder / "locks"
        self._clock = clock
        self._owner = uuid.uuid4().hex

    def take(self, name: str, seconds: float, spool: Path) -> bool:
        """Take a lock (see CacheStore)."""
        make_folder(self._folder)
        with self._guard(name):
            if self._is_held(self._read(name)):
                return False
            self._write(name, seconds, spool)
            return True

    def extend(self, name: str, seconds: float, spool: Path) -> bool:
        """Let a lock that this process holds end later (see CacheStore)."""
        if not self._folder.is_dir():
            return False
        with self._guard(name):
            taken = self._read(name)
            if taken is None or taken.owner != self._owner:
                return False
            self._write(name, seconds, spool)
            return True

    def release(self, name: str) -> None:
        """Release a lock if this process holds it. Another one may have taken it since it ended."""
        if not self._folder.is_dir():
            return
        with self._guard(name):
            taken = self._read(name)
            if taken is not None and taken.owner == self._owner:
                unlink_if_there(self._path(name))

    def remove_ended(self) -> None:
        """Remove the files of locks that ended long ago."""
        if not self._folder.is_dir():
            return
        now = self._clock()
        with os.scandir(self._folder) as found:
            for entry in found:
                if is_digest(entry.name):
                    with contextlib.suppress(FileNotFoundError), self._guard(entry.name):
                        taken = self._read(entry.name)
                        end = entry.stat().st_mtime if taken is None else taken.end
                        if not now - _KEPT_S <= end <= now + LONGEST_S:
                            unlink_if_there(entry.path)

    def _write(self, name: str, seconds: float, spool: Path) -> None:
        taken = _Taken(self._owner, self._clock() + min(seconds, LONGEST_S))
        replace(self._path(name), msgspec.json.encode(taken), spool, durably=False)

    def _is_held(self, taken: _Taken | None) -> bool:
        now = self._clock()
        return taken is not None and now < taken.end <= now + LONGEST_S

    def _path(self, name: str) -> Path:
        path_of(self._folder, name)  # raises ValueError for what is no digest
        return self._folder / name

    @contextlib.contextmanager
    def _guard(self, name: str) -> Iterator[None]:
        with locked(self._folder / f"guard-{name[:1]}"):
            yield

    def _read(self, name: str) -> _Taken | None:
        try:
            with open_fresh(self._path(name)) as file:
                return msgspec.json.decode(file.read(_MAX_BYTES), type=_Taken)
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError):  # a power cut may empty it
            return None
