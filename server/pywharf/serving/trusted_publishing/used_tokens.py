"""Which tokens were used up or burned, by claims in the storage of each repo that they are for.

A repo whose storage does not answer loses its own part of a token. It cannot stop those of other repos.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, Protocol

import msgspec
from cachetools import FIFOCache, TTLCache

from pywharf.core.access.identities import Claims, Minted
from pywharf.core.errors import PywharfError, UnavailableError
from pywharf.core.names import RepoName
from pywharf.index.single_flight import SingleFlight

_logger = logging.getLogger(__name__)

_CLAIM_S: Final = 3.0
"""Seconds that a storage may take for a claim. Some clients wait only five for their token."""
_CLAIMS_AT_A_TIME: Final = 32
"""Claims that begin before others run."""
_CHECK_S: Final = 5.0
_KNOWN_S: Final = 1.0
"""Seconds for which a token counts as not spent without asking the storage."""
_REMEMBERED: Final = 10_000

_UNKNOWN: Final = "It cannot be found out now whether the token was used before; try again with a new one."


class Burned(msgspec.Struct, frozen=True):
    """What the end of a minted token did."""

    minted: Minted
    repos: tuple[RepoName, ...]
    """Those of the token in which it was not ended before."""
    is_everywhere: bool
    """Whether every server will know it."""


class ClaimsOfRepo(Protocol):
    """The claims of one repo; see `pywharf.index.ports.Claims`."""

    async def claim(self, name: str, until: int) -> bool:
        """Claim a name, and return whether this call was the first."""

    async def is_claimed(self, name: str) -> bool:
        """Return whether a name was claimed."""


class UsedTokens:
    """The used and the burned tokens of one server. All its workers and replicas know them within two seconds."""

    def __init__(
        self, repository: Callable[[RepoName], ClaimsOfRepo], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`repository` returns a repo by its name; it may raise UnavailableError. `clock` gives seconds."""
        self._repository = repository
        self._spent: FIFOCache[tuple[RepoName, str], bool] = FIFOCache(_REMEMBERED)
        """By the name of the claim, as the next ones."""
        self._not_spent: TTLCache[tuple[RepoName, str], bool] = TTLCache(_REMEMBERED, _KNOWN_S, clock)
        self._asking = SingleFlight[tuple[RepoName, str], bool]()

    async def use_up(
        self, wanted: Sequence[RepoName], others: Collection[RepoName], token: str, until: int
    ) -> tuple[RepoName, ...]:
        """Let a token count, and return the wanted repos for which it counts now; none if it counted before.

        For `others` it is used up, too. Of concurrent calls, through any number of servers, one is the first
        for each repo. The first wanted repo whose storage answers decides for all of them, so that a token is not
        shared out between two calls.

        Raises UnavailableError if no storage of a wanted repo answers.
        """
        name = _name("used", token)
        claims = await self._claim_all((*wanted, *others), name, until)
        answered = [(repo, is_first) for repo in wanted if (is_first := claims[repo]) is not None]
        if not answered:
            raise UnavailableError(_UNKNOWN)
        if not answered[0][1]:
            return ()
        return tuple(repo for repo, is_first in answered if is_first)

    async def burn(self, minted: Minted) -> "Burned":
        """End a minted token."""
        name, until = _name("burned", minted.jti), int(minted.expires)
        for repo in minted.entries:
            self._spent[repo, name] = True
        claims = await self._claim_all(minted.entries, name, until)
        repos = tuple(repo for repo, is_first in claims.items() if is_first)
        return Burned(minted, repos, is_everywhere=None not in claims.values())

    async def is_spent(self, repo: RepoName, identity: Minted | Claims, token: str) -> bool:
        """Return whether a minted token was burned, or an OIDC token exchanged, as the repo's storage knows.

        Raises UnavailableError if it cannot be asked.
        """
        if isinstance(identity, Minted):
            key = repo, _name("burned", identity.jti)
        else:
            key = repo, _name("used", oidc_token_id(identity, token))
        if key in self._spent:
            return True
        if key in self._not_spent:
            return False
        return await self._asking.run(key, lambda: self._ask(*key))

    async def _ask(self, repo: RepoName, name: str) -> bool:
        try:
            async with asyncio.timeout(_CHECK_S):
                is_spent = await self._repository(repo).is_claimed(name)
        except TimeoutError:
            raise UnavailableError("It cannot be found out now whether the token was ended; try again.") from None
        (self._spent if is_spent else self._not_spent)[repo, name] = True
        return is_spent

    async def _claim_all(self, repos: Iterable[RepoName], name: str, until: int) -> dict[RepoName, bool | None]:
        """Claim a name in all these repos concurrently; see `_claim`. Others run meanwhile: there may be thousands."""
        tasks: dict[RepoName, asyncio.Task[bool | None]] = {}
        async with asyncio.TaskGroup() as group:
            for repo in repos:
                tasks[repo] = group.create_task(self._claim(repo, name, until))
                if len(tasks) % _CLAIMS_AT_A_TIME == 0:
                    await asyncio.sleep(0)
        return {repo: task.result() for repo, task in tasks.items()}

    async def _claim(self, repo: RepoName, name: str, until: int) -> bool | None:
        """Return whether this is the first claim of the name in a repo; None if the repo does not answer."""
        try:
            async with asyncio.timeout(_CLAIM_S):
                is_first = await self._repository(repo).claim(name, until)
        except TimeoutError:
            _logger.warning("Repo %s: the storage did not answer in time whether a token was used before.", repo)
        except PywharfError as error:
            _logger.warning("Repo %s: it is unknown whether a token was used before: %s", repo, error)
        except Exception:  # from a third party's backend
            _logger.exception("Repo %s: it is unknown whether a token was used before.", repo)
        else:
            self._spent[repo, name] = True
            return is_first
        return None


def oidc_token_id(claims: Claims, token: str) -> str:
    """Return what identifies an OIDC token: its issuer and jti, otherwise all that its signature covers.

    The signature itself does not count: some have several forms that are equally valid.
    """
    jti, iss = claims.claims.get("jti"), claims.claims.get("iss")
    if isinstance(jti, str) and jti:
        return f"jti\0{iss}\0{jti}"
    return f"token\0{token.rpartition('.')[0]}"


def _name(what: str, token: str) -> str:
    """Return the name of a claim: a digest, so that the storage tells nothing about tokens."""
    return hashlib.sha256(f"{what}\0{token}".encode("utf-8", "surrogatepass")).hexdigest()
