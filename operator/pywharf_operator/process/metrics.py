"""The operator's `/metrics` (Prometheus)."""

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from pywharf_operator.spec import ObjectKey

_SECONDS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SERVER: Final = "server"


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._reconciles = Counter(
            "pywharf_operator_reconciles", "Reconciles by result.", ["of", "result"], registry=registry
        )
        self._seconds = Histogram(
            "pywharf_operator_reconcile_seconds", "Seconds a reconcile took.", buckets=_SECONDS, registry=registry
        )
        self._depth = Gauge("pywharf_operator_queue_depth", "Servers that wait for a reconcile.", registry=registry)
        self._repos = Gauge(
            "pywharf_operator_repos", "PackageRepos by condition.", ["condition", "status"], registry=registry
        )
        self._requests = Counter(
            "pywharf_operator_api_requests", "Requests to the API server.", ["verb", "code"], registry=registry
        )
        self._leader = Gauge("pywharf_operator_leader", "1 where this replica leads.", registry=registry)
        self._unreadable = Gauge(
            "pywharf_operator_unreadable_namespaces",
            "1 for each watched namespace that the operator may not read, at least its policies.",
            ["namespace"],
            registry=registry,
        )
        self._restarts = Counter("pywharf_operator_kopf_restarts", "Times the watches ended.", registry=registry)
        ProcessCollector(registry=registry)
        for result in ("success", "error"):
            self._reconciles.labels(_SERVER, result)
        self._by_server: dict[ObjectKey, Counts[tuple[str, str]]] = {}

    def watch(self, *, depth: Callable[[], float], leads: Callable[[], bool]) -> None:
        """Set the functions that are called when the metrics are read."""
        self._depth.set_function(depth)
        self._leader.set_function(lambda: float(leads()))

    def reconciled(self, key: ObjectKey, result: str, seconds: float) -> None:
        """Count one reconcile by what it was of, its result (`success` or `error`) and its duration.

        A key without a namespace is no server's: its name says what it stands for.
        """
        self._reconciles.labels(_SERVER if key.namespace else key.name, result).inc()
        self._seconds.observe(seconds)

    def requested(self, verb: str, code: str) -> None:
        """Count one request; the code is `none` if there was no response."""
        self._requests.labels(verb, code).inc()

    def unreadable(self, namespaces: Iterable[str]) -> None:
        """Set which of the watched namespaces cannot be read."""
        self._unreadable.clear()
        for namespace in namespaces:
            self._unreadable.labels(namespace).set(1)

    def restarted(self) -> None:
        """Count one end of the watches."""
        self._restarts.inc()

    def repos(self, server: ObjectKey, counts: Mapping[tuple[str, str], int]) -> None:
        """Set how many repos of a server have each (condition, status); an empty mapping if the server is gone."""
        if counts:
            self._by_server[server] = Counts(counts)
        else:
            self._by_server.pop(server, None)
        total: Counts[tuple[str, str]] = Counts()
        for of_server in self._by_server.values():
            total.update(of_server)
        self._repos.clear()
        for (condition, status), number in total.items():
            self._repos.labels(condition, status).set(number)

    def render(self) -> bytes:
        """Return the text that Prometheus reads."""
        return generate_latest(self._registry)
