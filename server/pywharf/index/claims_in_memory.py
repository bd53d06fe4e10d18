"""Claims in this process's memory, for the repos whose backend keeps none."""

import time
from collections.abc import Callable

from pywharf.core.errors import UnavailableError
from pywharf.core.names import RepoName

MAX_CLAIMS = 10_000
"""Most claims of one repo. Past it new ones are refused; to forget old ones would let a token count twice."""
_FEW = 256
END_MARGIN_S = 300
"""Seconds for which a claim is kept after its end, because clocks differ."""


class ClaimsInMemory:
    """The claims of one repo (see `pywharf.index.ports.Claims`). Other processes do not know them."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._until: dict[str, int] = {}
        self._remove_at = _FEW
        """The number of claims at which those that ended are removed next."""

    async def claim(self, name: str, until: int) -> bool:
        """Claim a name. Raises UnavailableError for one name too many."""
        if name in self._until:
            return False
        if len(self._until) >= self._remove_at:
            await self.remove_ended_claims()
            self._remove_at = min(max(_FEW, 2 * len(self._until)), MAX_CLAIMS)
        if len(self._until) >= MAX_CLAIMS:
            raise too_many_claims()
        self._until[name] = until
        return True

    async def is_claimed(self, name: str) -> bool:
        """Return whether the name was claimed."""
        return name in self._until

    async def remove_ended_claims(self) -> None:
        """Forget the claims that ended some minutes ago."""
        now = self._clock()
        self._until = {name: until for name, until in self._until.items() if until + END_MARGIN_S > now}


class ClaimsOfRepos:
    """The claims of all repos whose backend keeps none. They outlast a repo that is opened again."""

    def __init__(self) -> None:
        self._by_repo: dict[RepoName, ClaimsInMemory] = {}

    def of(self, repo: RepoName) -> ClaimsInMemory:
        """Return the repo's claims."""
        return self._by_repo.setdefault(repo, ClaimsInMemory())


def too_many_claims() -> UnavailableError:
    """Return the error for a storage that holds as many claims as it may."""
    return UnavailableError(
        "The repo keeps too many used tokens; run update_index, which removes those that ended, and try again."
    )
