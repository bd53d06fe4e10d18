"""The metrics of files of other indexes that the server caches."""

from functools import cached_property
from typing import Any

from prometheus_client import CollectorRegistry, Counter

from pywharf.index.upstream.file_fetching import FetchResult, PassReason


class FileCacheMetrics:
    """The counts of one server. See `pywharf.index.upstream.file_fetching.FileCounts`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        own: dict[str, Any] = {"registry": registry}
        self._requests = Counter(
            "pywharf_cache_file_requests",
            "Requests for files and core metadata of other indexes; hit: the cache had it, miss: it had to be fetched.",
            ["result"],
            **own,
        )
        self._bytes = Counter(
            "pywharf_cache_file_bytes",
            "Bytes of files that were in the cache when they were asked for, and bytes that other indexes sent.",
            ["source"],
            **own,
        )
        self._fetches = Counter(
            "pywharf_upstream_file_fetches", "Files that were requested of other indexes, by result.", ["result"], **own
        )
        self._passed_through = Counter(
            "pywharf_cache_passed_through",
            "Files that clients got although the cache could not keep them, or not fetch them under its lock.",
            ["reason"],
            **own,
        )

    @cached_property
    def _hits(self) -> Counter:
        """The counter of hits. Looking its label up would cost each hit more than counting it."""
        return self._requests.labels("hit")

    @cached_property
    def _hit_bytes(self) -> Counter:
        return self._bytes.labels("cache")

    def found(self, size: int) -> None:
        """Count a request for a file of so many bytes that was kept."""
        self._hits.inc()
        self._hit_bytes.inc(size)

    def missed(self) -> None:
        """Count a request for a file that was not kept."""
        self._requests.labels("miss").inc()

    def fetched(self, result: FetchResult, size: int) -> None:
        """Count one fetch, with the bytes that came."""
        self._fetches.labels(result).inc()
        self._bytes.labels("upstream").inc(size)

    def passed_through(self, reason: PassReason) -> None:
        """Count a file that clients got but that is not kept, or was not fetched by one server for all."""
        self._passed_through.labels(reason).inc()
