"""The records of sessions that were ended early: one file per repo, in a folder that all servers of a ROOT share."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from pywharf.core.errors import BackendUnavailableError
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import RepoName
from pywharf.core.os_errors import of_storage, translating
from pywharf.disk.durable import locked, open_fresh, write_atomically
from pywharf.index.single_flight import SingleFlight

P = ParamSpec("P")
T = TypeVar("T")
_MAX_ENDED = 1000
"""Unexpired records of one repo. Past it those of one holder become one number, which ends all its sessions."""
_MAX_BYTES = 256 * 1024
_POLL_S = 1.0
_READ_TIMEOUT_S = 5.0
_SETTLED_S = 2.0
"""Seconds that a file must be unchanged to count as settled.

The clock of a file system is coarse: within one tick a file may change again and look the same.
"""


class Holder(msgspec.Struct, frozen=True):
    """Who holds a session, as far as the records tell holders apart."""

    group: str
    """What let it in: an access entry, or the repo's read or write secret. There are few of a repo."""
    member: str = ""
    """Who of the group it is; "": all of it."""

    def __str__(self) -> str:
        return f"{self.group}/{self.member}"


class _All(msgspec.Struct, frozen=True, array_like=True):
    """The end of all sessions of a holder."""

    before: int
    """Those issued until then are ended."""
    until: int
    """The time until which it is recorded."""


@warmed_up
class _Ended(msgspec.Struct, frozen=True):
    """The content of a repo's file. Times are Unix seconds."""

    before: int = 0
    """All sessions issued until then are ended."""
    sessions: dict[str, int] = {}
    """Ended sessions by id, and the time until which each is recorded: then it has expired anyway."""
    holders: dict[str, str] = {}
    """The holder of each of them; older versions recorded none."""
    all_of: dict[str, _All] = {}
    """The holders whose sessions have all ended. One without a member is the whole group."""

    def holds(self, holder: Holder, session: str, issued_at: int) -> bool:
        if issued_at <= self.before or session in self.sessions:
            return True
        return any(
            (ended := self.all_of.get(str(one))) is not None and issued_at <= ended.before
            for one in (holder, Holder(holder.group))
        )

    def with_one(self, holder: Holder, session: str, until: int, now: int) -> "_Ended":
        sessions = {one: end for one, end in self.sessions.items() if end > now} | {session: until}
        holders = {one: of for one, of in self.holders.items() if one in sessions} | {session: str(holder)}
        all_of = {one: ended for one, ended in self.all_of.items() if ended.until > now}
        ended = _Ended(self.before, sessions, holders, all_of)
        return ended if len(sessions) + len(all_of) <= _MAX_ENDED else ended._with_fewer(now)

    def _with_fewer(self, now: int) -> "_Ended":
        """Return fewer records: the member with the most of the group with the most becomes one number.

        So a holder ends no other's sessions, and one that comes under many names ends those of its own group at most.
        """
        of_session = [self.holders.get(one, "/") for one in self.sessions]
        groups = Counter(_group(of) for of in (*of_session, *self.all_of))
        group, _ = groups.most_common(1)[0]
        if not group:  # an older version of the server recorded them, without a holder
            return _Ended(now)
        members = Counter(of for of in of_session if _group(of) == group)
        heaviest, count = members.most_common(1)[0] if members else ("", 0)
        if count > 1:
            gone = {one for one in self.sessions if self.holders.get(one, "/") == heaviest}
            replaced = {heaviest} & set(self.all_of)
        else:  # as many members as records
            heaviest = str(Holder(group))
            gone = {one for one in self.sessions if _group(self.holders.get(one, "/")) == group}
            replaced = {one for one in self.all_of if _group(one) == group}
        until = max([*(self.sessions[one] for one in gone), *(self.all_of[one].until for one in replaced)])
        return _Ended(
            self.before,
            {one: end for one, end in self.sessions.items() if one not in gone},
            {one: of for one, of in self.holders.items() if one not in gone},
            {one: ended for one, ended in self.all_of.items() if one not in replaced} | {heaviest: _All(now, until)},
        )


def _group(holder: str) -> str:
    return holder.partition("/")[0]


class _Known(msgspec.Struct):
    ended: _Ended
    read_at: float
    """Monotonic time in seconds."""
    version: tuple[int, int, int] | None
    """None: the file may change and look the same."""


class SessionFiles:
    """The records, read once a second for each repo whose sessions are used. Own changes are known immediately."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self._known: dict[RepoName, _Known] = {}
        self._reading = SingleFlight[RepoName, _Known]()

    async def add(self, repo: RepoName, holder: Holder, session: str, issued_at: int, until: int) -> None:
        """Record an ended session; see EndedSessions."""
        now = int(self._clock())
        # A session issued by a clock that is ahead must not outlast the end of all sessions.
        await self._call(self._add, repo, holder, session, until, max(now, issued_at))

    async def holds(self, repo: RepoName, holder: Holder, session: str, issued_at: int) -> bool:
        """Return whether a session was ended; see EndedSessions."""
        known = self._known.get(repo)
        if known is None or time.monotonic() - known.read_at > _POLL_S:
            known = await self._fresh(repo)
        return known.ended.holds(holder, session, issued_at)

    async def _fresh(self, repo: RepoName) -> _Known:
        """Read the record, one read at a time: a hanging storage blocks one thread, and each request some seconds."""
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                return await self._reading.run(repo, lambda: self._call(self._poll, repo))
        except TimeoutError as error:
            raise BackendUnavailableError(
                f"The record of ended sessions was not read within {_READ_TIMEOUT_S:.0f} seconds; try again."
            ) from error

    def _add(self, repo: RepoName, holder: Holder, session: str, until: int, now: int) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(self._folder / "lock"):
            ended = self._read(repo)[0].with_one(holder, session, until, now)
            write_atomically(self._folder / f"{repo}.json", msgspec.json.encode(ended))
        self._known[repo] = _Known(ended, time.monotonic(), None)

    def _poll(self, repo: RepoName) -> _Known:
        read_at = time.monotonic()
        known = self._known.get(repo)
        ended, version = self._read(repo, known)
        self._known[repo] = known = _Known(ended, read_at, version)
        return known

    def _read(self, repo: RepoName, known: _Known | None = None) -> tuple[_Ended, tuple[int, int, int] | None]:
        """Return the record and the file's version; a file of the same version need not be read again."""
        try:
            with open_fresh(self._folder / f"{repo}.json") as file:
                status = os.fstat(file.fileno())
                version = status.st_ino, status.st_mtime_ns, status.st_size
                if known is not None and known.version == version:
                    return known.ended, version
                content = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return _Ended(), None
        try:
            if len(content) > _MAX_BYTES:
                raise ValueError  # noqa: TRY301 - one message for every file that is not one of these
            ended = msgspec.json.decode(content, type=_Ended)
        except ValueError as error:  # msgspec's own are ValueErrors
            raise BackendUnavailableError(
                f"The record of ended sessions of {repo} cannot be read, so no session is accepted; remove the file "
                f"sessions/{repo}.json of the ROOT, and rotate the repo's secrets to end the sessions that it held."
            ) from error
        settled = self._clock() - status.st_mtime > _SETTLED_S
        return ended, version if settled else None

    @staticmethod
    async def _call(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        def call() -> T:
            with translating(of_storage):
                return function(*args, **kwargs)

        return await asyncio.to_thread(call)
