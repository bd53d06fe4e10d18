"""Open the pull-through cache of a server, and close it with the server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from pywharf.backends.opening import open_cache
from pywharf.config.settings import ServerSettings
from pywharf.egress.policy import egress_of
from pywharf.egress.upstream_client import UpstreamClient
from pywharf.egress.upstream_files import UpstreamFiles
from pywharf.index.upstream.health import SourceHealth
from pywharf.index.upstream.kept_files import KeptFiles
from pywharf.index.upstream.kept_pages import KeptPages
from pywharf.index.upstream.upstream_cache import UpstreamCache
from pywharf.serving.cache_file import read_cache_config
from pywharf.serving.metrics import Metrics


@contextlib.asynccontextmanager
async def opened_cache(
    settings: ServerSettings, client: UpstreamClient, health: SourceHealth, metrics: Metrics, user_agent: str
) -> AsyncIterator[UpstreamCache | None]:
    """Yield the cache that `--cache_config` describes; None without the flag. Raises InvalidConfigError."""
    if settings.cache_config is None:
        yield None
        return
    config, secret = await asyncio.to_thread(read_cache_config, settings.cache_config)
    store = open_cache(config, Path(settings.root), secret)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(store.aclose)
        pages = KeptPages(client, store, float(config.keep_pages), metrics.kept_pages, health)
        stack.push_async_callback(pages.aclose)
        fetcher = await stack.enter_async_context(UpstreamFiles(user_agent, egress_of(settings.allowed_endpoints)))
        files = await stack.enter_async_context(
            KeptFiles(store, fetcher, metrics.cached_files, max_spool_bytes=config.max_bytes)
        )
        yield UpstreamCache(store, pages, files, config.max_bytes, float(config.keep_pages))
