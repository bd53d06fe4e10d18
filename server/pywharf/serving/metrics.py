"""The metrics that `/metrics` reports (Prometheus)."""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from pywharf.core.advisories.store_format import StoreMeta
from pywharf.core.policy.model import Rule
from pywharf.serving.file_cache_metrics import FileCacheMetrics
from pywharf.serving.kept_page_metrics import KeptPageMetrics

_SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that makes the Prometheus client share counts between processes."""
CONTENT_TYPE = CONTENT_TYPE_LATEST
_RULES: tuple[str, ...] = get_args(Rule)
_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 300)


def share(folder: Path) -> None:
    """Count in files of this folder, together with other processes. Call this before any Metrics is made."""
    os.environ[_SHARED_FOLDER] = str(folder)
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]


def forget(pid: int) -> None:
    """Drop the gauges of a process that has ended."""
    mark_process_dead(pid)  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one server. With several workers each keeps its own, and any of them reports the sums."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self._registry}
        self._requests = Counter("pywharf_http_requests", "Requests answered.", ["method", "route", "status"], **own)
        self._seconds = Histogram(
            "pywharf_http_request_seconds",
            "Seconds from request to last byte.",
            ["route"],
            buckets=_SECONDS,
            **own,
        )
        self.uploads = Counter("pywharf_uploads", "Uploads by repo and result.", ["repo", "result"], **own)
        self.changes = Counter(
            "pywharf_changes", "Yanks, deletions and other changes by result.", ["repo", "action", "result"], **own
        )
        self.refusals = Counter("pywharf_refusals", "Refused credentials and requests, by status.", ["status"], **own)
        self.audit_suppressed = Counter(
            "pywharf_audit_suppressed", "Events without a line in the audit log: there were too many.", ["event"], **own
        )
        self.reloads = Counter("pywharf_config_reloads", "Configurations read, by result.", ["result"], **own)
        self.config_valid = Gauge(
            "pywharf_config_valid",
            "1 where the newest configuration is the one served, 0 where it was refused.",
            multiprocess_mode="livemin",
            **own,
        )
        self.parses = Counter("pywharf_index_parses", "Index files parsed; a change costs one.", ["repo"], **own)
        self.synchronised = Gauge(
            "pywharf_index_synchronised",
            "1 where the repo's index is synchronised with its storage.",
            ["repo"],
            multiprocess_mode="livemin",
            **own,
        )
        self.rate_limit = Gauge(
            "pywharf_backend_rate_limit_remaining",
            "How often the repo's storage may still be asked, as of its last answer.",
            ["repo"],
            multiprocess_mode="livemin",
            **own,
        )
        self.upstream = Counter("pywharf_upstream_requests", "Look-ups in the extra index.", ["result"], **own)
        self.failing_sources = Gauge(
            "pywharf_upstream_failing",
            "Upstream indexes that failed lately, and have answered nothing since.",
            multiprocess_mode="livemax",
            **own,
        )
        self.kept_pages = KeptPageMetrics(self._registry)
        self.cached_files = FileCacheMetrics(self._registry)
        self._withheld = Gauge(
            "pywharf_withheld_files",
            "Files that policies withhold, on the pages made lately.",
            ["rule"],
            multiprocess_mode="livemax",
            **own,
        )
        self.refused_downloads = Counter(
            "pywharf_refused_downloads", "Downloads refused because a policy withholds the file.", ["rule"], **own
        )
        self._advisories = Gauge(
            "pywharf_advisories",
            "Entries of the feed of advisories by kind; skipped: those that cannot be used.",
            ["kind"],
            multiprocess_mode="livemax",
            **own,
        )
        self._advisory_times = Gauge(
            "pywharf_advisories_timestamp_seconds",
            "When the newest entry of the feed was changed, and when the feed was last checked, in Unix seconds.",
            ["of"],
            multiprocess_mode="livemax",
            **own,
        )
        self.advisory_reads = Counter(
            "pywharf_advisory_reads", "Attempts to read the feed of advisories, by result.", ["result"], **own
        )
        self.advisory_hits = Counter(
            "pywharf_advisory_hits",
            "Files served in the last 30 days that a new advisory is about.",
            ["repo", "kind"],
            **own,
        )
        self.identity_verifications = Counter(
            "pywharf_identity_verifications",
            "Tokens of issuers that were verified, by result; cached ones are not counted again.",
            ["result"],
            **own,
        )
        self.identity_key_fetches = Counter(
            "pywharf_identity_key_fetches",
            "Attempts to fetch an issuer's keys, by result.",
            ["issuer", "result"],
            **own,
        )
        self._identity_key_times = Gauge(
            "pywharf_identity_keys_timestamp_seconds",
            "When the keys of an issuer were last fetched, in Unix seconds.",
            ["issuer"],
            multiprocess_mode="livemin",
            **own,
        )
        self._cache_bytes = Gauge(
            "pywharf_cache_kept_bytes",
            "Bytes in the pull-through cache, as of its last listing.",
            ["of"],
            multiprocess_mode="livemostrecent",
            **own,
        )
        self._cache_files = Gauge(
            "pywharf_cache_kept_files",
            "Files in the pull-through cache, as of its last listing.",
            multiprocess_mode="livemostrecent",
            **own,
        )
        self._evictions = Counter(
            "pywharf_cache_evictions", "Files that this server evicted from the cache.", ["reason"], **own
        )
        self._evicted_bytes = Counter(
            "pywharf_cache_evicted_bytes", "Bytes of the files that it evicted.", ["reason"], **own
        )
        self._request_children: dict[tuple[str, str, int], Any] = {}
        self._second_children: dict[str, Any] = {}

    def count_upstream(self, result: str) -> None:
        """Count one request to an extra index."""
        self.upstream.labels(result).inc()

    def set_cache_usage(self, files: int, file_bytes: int, page_bytes: int) -> None:
        """Set how much the pull-through cache holds."""
        self._cache_files.set(files)
        self._cache_bytes.labels("files").set(file_bytes)
        self._cache_bytes.labels("pages").set(page_bytes)

    def count_evicted(self, reason: str, files: int, size: int) -> None:
        """Count files that were evicted from the pull-through cache, and their bytes."""
        self._evictions.labels(reason).inc(files)
        self._evicted_bytes.labels(reason).inc(size)

    def set_withheld(self, by_rule: Mapping[str, int]) -> None:
        """Set how many files each rule withholds."""
        for rule in _RULES:
            self._withheld.labels(rule).set(by_rule.get(rule, 0))

    def set_advisories(self, feed: StoreMeta) -> None:
        """Report the feed that is in use."""
        for kind, count in (
            ("malware", feed.malware),
            ("other", feed.entries - feed.malware),
            ("skipped", feed.skipped),
        ):
            self._advisories.labels(kind).set(count)
        self._advisory_times.labels("newest entry").set(feed.newest)

    def checked_advisories(self) -> None:
        """Report that the feed was read, or is unchanged, at this moment."""
        self._advisory_times.labels("check").set(time.time())

    def took_identity_keys(self, issuer: str) -> None:
        """Report that an issuer's keys were fetched at this moment."""
        self.identity_key_fetches.labels(issuer, "fetched").inc()
        self._identity_key_times.labels(issuer).set(time.time())

    def count_advisory_hit(self, repo: str, kind: str) -> None:
        """Count a file that was served and that a new advisory is about."""
        self.advisory_hits.labels(repo, kind).inc()

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one response."""
        key = (method, route, status)
        child = self._request_children.get(key)
        if child is None:
            child = self._request_children[key] = self._requests.labels(method, route, str(status))
        child.inc()
        histogram = self._second_children.get(route)
        if histogram is None:
            histogram = self._second_children[route] = self._seconds.labels(route)
        histogram.observe(seconds)

    def render(self) -> bytes:
        """Return the text that Prometheus reads."""
        shared = os.environ.get(_SHARED_FOLDER)
        if not shared:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        registry.register(_Shared(Path(shared)))
        return generate_latest(registry)


class _Shared(Collector):
    """A collector of the sums over all processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        # A new file is empty until it is first sized, and stays empty if its process is killed before that.
        files = [str(path) for path in self._folder.glob("*.db") if _size(path)]
        metrics: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return metrics


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a gauge's file, whose process has just ended
        return 0
