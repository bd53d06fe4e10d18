"""Keep the names of tokens that were used up or burned: an object for each, `tokens/<digit>/<name>`.

An object's size says how long its claim is kept after the store made it, so a listing alone shows which ones ended.
"""

import math
import secrets
import time
from collections.abc import Callable

from pywharf.backends.object_store.client import ObjectClient, ObjectExistsError, ObjectMissingError, Stat
from pywharf.index.claims_in_memory import END_MARGIN_S, too_many_claims
from pywharf.index.ports import MAX_CLAIM_S

MAX_IN_FOLDER = 4000
"""Most claims of one of the sixteen folders: four pages of a list."""
_MARK_BYTES = 32
"""Random digits by which a call knows its own object. Each further byte keeps the claim for one minute."""
_MINUTE_S = 60
_MOST_BYTES = _MARK_BYTES + MAX_CLAIM_S // _MINUTE_S + 1


class TokenClaims:
    """The claims of one repo (see Claims)."""

    def __init__(self, client: ObjectClient, folder: str, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._folder = folder
        self._clock = clock

    async def claim(self, name: str, until: int) -> bool:
        """Claim a name; return False if it is claimed. Raises UnavailableError if the folder is full."""
        await self._check_room(f"{self._folder}/{name[0]}")
        minutes = math.ceil(min(max(0.0, until - self._clock()), MAX_CLAIM_S) / _MINUTE_S)
        content = secrets.token_hex(_MARK_BYTES // 2).encode().ljust(_MARK_BYTES + minutes, b".")
        key = self._key(name)
        try:
            await self._client.create(key, content)
        except ObjectExistsError:
            # After a lost answer it is one's own: the client sent the same request again.
            try:
                return (await self._client.get(key, _MOST_BYTES)).content == content
            except ObjectMissingError:
                return False
        return True

    async def is_claimed(self, name: str) -> bool:
        """Return whether the name was claimed."""
        try:
            await self._client.head(self._key(name))
        except ObjectMissingError:
            return False
        return True

    async def remove_ended(self) -> None:
        """Remove the claims that ended."""
        await self._client.delete([stat.key for stat in await self._listed(self._folder) if self._is_ended(stat)])

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name[0]}/{name}"

    async def _check_room(self, folder: str) -> None:
        listed = await self._listed(folder)
        if len(listed) < MAX_IN_FOLDER:
            return
        ended = [stat.key for stat in listed if self._is_ended(stat)]
        await self._client.delete(ended)
        if len(listed) - len(ended) >= MAX_IN_FOLDER:
            raise too_many_claims()

    async def _listed(self, folder: str) -> list[Stat]:
        return [stat async for page in self._client.pages(folder) for stat in page]

    def _is_ended(self, stat: Stat) -> bool:
        kept_s = (stat.size - _MARK_BYTES) * _MINUTE_S
        return stat.modified.timestamp() + kept_s + END_MARGIN_S < self._clock()
