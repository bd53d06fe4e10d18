"""The advisories that a worker knows now."""

from pywharf.core.advisories.store import AdvisoryStore
from pywharf.core.errors import AdvisoriesNotLoadedError


class CurrentAdvisories:
    """The advisories of the newest feed that was read. Those with another `revision` are another object."""

    def __init__(self, *, has_feed: bool = False) -> None:
        self.has_feed = has_feed
        """Whether the server was given a feed."""
        self._store: AdvisoryStore | None = None
        self._entries: AdvisoryStore | None = None

    def current(self) -> AdvisoryStore | None:
        """Return the advisories, or None until the first feed was read, and on a server without a feed."""
        return self._store

    def required(self) -> AdvisoryStore:
        """Return the advisories. Raises AdvisoriesNotLoadedError where `current` returns None."""
        if self._store is None:
            raise AdvisoriesNotLoadedError(has_feed=self.has_feed)
        return self._store

    def entries(self) -> AdvisoryStore:
        """Return the newest feed, for its entries' texts. Raises AdvisoriesNotLoadedError as `required` does."""
        if self._entries is None:
            raise AdvisoriesNotLoadedError(has_feed=self.has_feed)
        return self._entries

    def is_loading(self) -> bool:
        """Return whether a feed was given and none has been read yet."""
        return self.has_feed and self._store is None

    def replace(self, store: AdvisoryStore) -> None:
        """Use another feed from now on. While its answers are the same, pages made with the last one stay."""
        self._entries = store
        if self._store is None or self._store.revision != store.revision:
            self._store = store
