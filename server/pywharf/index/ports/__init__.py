"""The ports: what a storage must do to be a backend, and the data exchanged with it.

`Packages` holds the files, `IndexStore` the index and the journal. A `Backend` is both; code that needs only one takes
that one.
"""

from typing import Protocol

from pywharf.index.ports.abilities import MAX_CLAIM_S, Authority, Claims, Probeable, RateLimit, RateLimited
from pywharf.index.ports.cache_store import USE_GRANULARITY_S, About, CacheStore, KeptFile, Pin
from pywharf.index.ports.index_store import (
    UNCHANGED,
    IndexStore,
    JournalEntry,
    JournalRead,
    StoredIndex,
    Unchanged,
)
from pywharf.index.ports.packages import (
    Action,
    Change,
    Content,
    Delete,
    LocalContent,
    Packages,
    Progress,
    RedirectContent,
    Reserve,
    ScannedProject,
    SetStatus,
    SetYanked,
    StreamContent,
    Upload,
)

__all__ = [
    "MAX_CLAIM_S",
    "UNCHANGED",
    "USE_GRANULARITY_S",
    "About",
    "Action",
    "Authority",
    "Backend",
    "CacheStore",
    "Change",
    "Claims",
    "Content",
    "Delete",
    "IndexStore",
    "JournalEntry",
    "JournalRead",
    "KeptFile",
    "LocalContent",
    "Packages",
    "Pin",
    "Probeable",
    "Progress",
    "RateLimit",
    "RateLimited",
    "RedirectContent",
    "Reserve",
    "ScannedProject",
    "SetStatus",
    "SetYanked",
    "StoredIndex",
    "StreamContent",
    "Unchanged",
    "Upload",
]


class Backend(Packages, IndexStore, Protocol):
    """One repo's storage: its packages, and their index.

    Instances are used by one event loop. Further abilities are optional: `Probeable`, `Authority`, `RateLimited`
    and `Claims`.
    """

    async def aclose(self) -> None:
        """Release the backend's resources. No other method is called afterwards."""
