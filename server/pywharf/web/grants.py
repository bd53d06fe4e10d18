"""What a storage said of clients' own secrets, remembered for a while: under digests, so that no secret is kept."""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable

import msgspec

from pywharf.core.access import Permission
from pywharf.core.errors import RateLimitedError
from pywharf.index.ports import Authority

_KEPT = 10_000
_REFUSED_S = 30.0
"""How long a refusal is remembered: a right that was just given counts soon."""
_ASKS_AT_ONCE = 4
_REFUSALS_A_MINUTE = 60
"""Then secrets that are not known yet have to wait: a storage shuts out whoever tries too many."""


class _Grant(msgspec.Struct, frozen=True):
    permission: Permission
    asked_at: float


class Grants:
    """One repo's. Each secret is asked about once at a time."""

    def __init__(
        self,
        authority: Authority,
        read_expires_s: float,
        write_expires_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._authority = authority
        self._lives_s = {
            Permission.NONE: _REFUSED_S,
            Permission.READ: read_expires_s,
            Permission.WRITE: write_expires_s,
        }
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._kept: OrderedDict[bytes, _Grant] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Permission]] = {}
        self._places = asyncio.Semaphore(_ASKS_AT_ONCE)
        self._refused: deque[float] = deque(maxlen=_REFUSALS_A_MINUTE)

    async def permission(self, secret: str, needed: Permission) -> Permission:
        """What the client may do. Raises UnavailableError where it is not known and cannot be asked now."""
        digest = hmac.digest(self._key, secret.encode("utf-8", "surrogateescape"), hashlib.sha256)
        kept = self._kept.get(digest)
        if kept is not None and self._clock() < kept.asked_at + self._life_s(kept.permission, needed):
            return kept.permission
        task = self._asking.get(digest)
        if task is None:
            task = self._asking[digest] = asyncio.create_task(self._ask(digest, secret))
            task.add_done_callback(lambda _: self._asking.pop(digest, None))
        # Shielded: one client that goes away must not take the answer from others.
        return await asyncio.shield(task)

    def _life_s(self, granted: Permission, needed: Permission) -> float:
        """How long it holds for what is needed: of one that may write, reading is remembered as reading is.

        Less than what is needed is a refusal.
        """
        return self._lives_s[needed] if granted >= needed else _REFUSED_S

    async def _ask(self, digest: bytes, secret: str) -> Permission:
        async with self._places:
            asked_at = self._clock()
            wait = self._refused[0] + 60 - asked_at if len(self._refused) == _REFUSALS_A_MINUTE else 0
            if wait > 0 and digest not in self._kept:
                msg = "Too many wrong secrets were sent to this repo; try again in a minute."
                raise RateLimitedError(msg, int(wait) + 1)
            permission = await self._authority.permission_of(secret)
        if permission is Permission.NONE:
            self._refused.append(asked_at)
        self._kept[digest] = _Grant(permission, asked_at)
        self._kept.move_to_end(digest)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return permission
