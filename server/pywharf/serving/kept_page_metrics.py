"""The metrics of the pages that the pull-through cache keeps."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from pywharf.index.upstream.kept_pages import Result

_AGES = (60, 300, 3_600, 21_600, 86_400, 259_200, 604_800, 2_592_000)


class KeptPageMetrics:
    """What becomes of kept pages. See `pywharf.index.upstream.kept_pages.PageMetrics`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._pages = Counter(
            "pywharf_cache_pages",
            "Upstream pages that were revalidated, or answered stale, by result.",
            ["result"],
            registry=registry,
        )
        self._age = Histogram(
            "pywharf_cache_page_age_seconds",
            "Seconds since the upstream index confirmed a page that was answered.",
            ["result"],
            buckets=_AGES,
            registry=registry,
        )

    def count_page(self, result: Result) -> None:
        """Count a page."""
        self._pages.labels(result).inc()

    def observe_page_age(self, seconds: float) -> None:
        """Note how long ago a page was confirmed that is answered stale."""
        self._age.labels("stale").observe(seconds)
