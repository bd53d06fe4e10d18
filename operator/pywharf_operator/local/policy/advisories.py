"""Read a feed of advisories once, as a server does, for one command."""

import asyncio
import tempfile
from pathlib import Path

from pywharf import __version__
from pywharf.core.advisories.feed import BadFeedError
from pywharf.core.advisories.store import AdvisoryStore, BrokenStoreError
from pywharf.core.errors import InvalidConfigError
from pywharf.core.os_errors import reason_of
from pywharf.core.urls import is_http
from pywharf.egress.advisory_feed import FeedClient, FeedUnavailableError, Validators
from pywharf.egress.policy import Egress
from pywharf.serving.advisories.compiling import CompilingFailedError, compiled
from pywharf.serving.advisories.opening import open_store


def read_advisories(source: str) -> AdvisoryStore:
    """Return the advisories of a feed, which is a URL or the path of a file. Raises InvalidConfigError."""
    try:
        with tempfile.TemporaryDirectory(prefix="pywharf-") as folder:
            return asyncio.run(_read(source, Path(folder)))
    except (FeedUnavailableError, BadFeedError, CompilingFailedError, BrokenStoreError) as error:
        raise InvalidConfigError(f"The feed of --advisories cannot be used: {error}.") from error
    except OSError as error:
        raise InvalidConfigError(f"The feed of --advisories cannot be read: {reason_of(error)}.") from error


async def _read(source: str, folder: Path) -> AdvisoryStore:
    feed = Path(source)
    if is_http(source):
        feed = folder / "feed"
        client = FeedClient(source, f"pywharf/{__version__}", Egress())
        try:
            await client.fetch(feed, Validators())
        finally:
            await client.aclose()
    elif not feed.is_file():
        raise FeedUnavailableError("there is no readable file at its path")
    store = folder / "store"
    await compiled(feed, store, source="", is_paced=False)
    return open_store(store)  # what is mapped stays after the folder is removed
