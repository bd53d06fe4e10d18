"""Open the pull-through cache of a server, keep it within its bounds, and close it with the server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from pathlib import Path

from pywharf.backends.opening import open_cache
from pywharf.config.settings import ServerSettings
from pywharf.egress.policy import egress_of
from pywharf.egress.upstream_client import UpstreamClient
from pywharf.egress.upstream_files import UpstreamFiles
from pywharf.index.ports import About
from pywharf.index.upstream.first_digests import key_of as key_of_digest
from pywharf.index.upstream.health import SourceHealth
from pywharf.index.upstream.kept_files import KeptFiles
from pywharf.index.upstream.kept_page import key_of as key_of_page
from pywharf.index.upstream.kept_pages import KeptPages
from pywharf.index.upstream.page_upkeep import PageUpkeep
from pywharf.index.upstream.pinned_bytes import PinnedBytes
from pywharf.index.upstream.scopes import Scopes
from pywharf.index.upstream.upkeep import CountsForUpkeep, Upkeep
from pywharf.index.upstream.upstream_cache import UpstreamCache
from pywharf.serving.cache_file import read_cache_config
from pywharf.serving.metrics import Metrics


@contextlib.asynccontextmanager
async def opened_cache(  # noqa: PLR0913 - the parts of the server that it needs
    settings: ServerSettings,
    client: UpstreamClient,
    health: SourceHealth,
    metrics: Metrics,
    user_agent: str,
    *,
    running: AbstractContextManager[object],
) -> AsyncIterator[UpstreamCache | None]:
    """Yield the cache that `--cache_config` describes; None without the flag. Raises InvalidConfigError.

    `running` is entered by what a server that stops has to wait for.
    """
    if settings.cache_config is None:
        yield None
        return
    config, secret = await asyncio.to_thread(read_cache_config, settings.cache_config)
    keep_pages_s = float(config.keep_pages)
    store = open_cache(config, Path(settings.root), secret)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(store.aclose)
        scopes = Scopes()
        pages = KeptPages(client, store, keep_pages_s, metrics.kept_pages, health, scopes=scopes)
        stack.push_async_callback(pages.aclose)
        page_upkeep = PageUpkeep(store, config.max_bytes, keep_pages_s, pinned_keys=pages.pinned_keys, keys_of=_keys_of)
        upkeep = Upkeep(store, config.max_bytes, page_upkeep, metrics)
        await stack.enter_async_context(_running(upkeep))
        fetcher = await stack.enter_async_context(UpstreamFiles(user_agent, egress_of(settings.allowed_endpoints)))
        files = await stack.enter_async_context(
            KeptFiles(
                store,
                fetcher,
                CountsForUpkeep(metrics.cached_files, upkeep),
                scopes=scopes,
                max_spool_bytes=config.max_spool_bytes or config.max_bytes,
                finishing=running,
            )
        )
        pinned = PinnedBytes(store, config.max_bytes)
        yield UpstreamCache(store, config.max_bytes, keep_pages_s, pages, files, pinned)


def _keys_of(about: About) -> tuple[str, str]:
    """Return the keys of the pages without which a file of an index without credentials is not served."""
    return key_of_page(about.source, "", about.project), key_of_digest(about.source, "", about.project, about.filename)


@contextlib.asynccontextmanager
async def _running(upkeep: Upkeep) -> AsyncIterator[None]:
    task = asyncio.create_task(upkeep.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
