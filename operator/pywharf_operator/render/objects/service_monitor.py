"""The ServiceMonitor `<server>` of the Prometheus operator, and the Service `<server>-metrics` that it selects."""

from typing import Final

from pywharf_operator.render.labels import Manifest, metadata, selector
from pywharf_operator.render.pod.pod_template import INTERNAL_PORT
from pywharf_operator.render.resolve.resolution import ServerVerdict
from pywharf_operator.render.resolve.snapshot import Environment
from pywharf_operator.spec.names import SERVER_LABEL

KIND: Final = "ServiceMonitor"
METRICS_LABEL: Final = "pywharf.dev/metrics"
_PORT: Final = "internal"


def metrics_service(verdict: ServerVerdict, environment: Environment) -> Manifest | None:
    """Render the Service; None without a ServiceMonitor."""
    server = verdict.server
    if server.spec.service_monitor is None or KIND not in environment.apis:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(server, "metrics", extra_labels={METRICS_LABEL: "true"}),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",  # each replica is scraped by itself, even one that is not ready
            "publishNotReadyAddresses": True,
            "selector": selector(server),
            "ports": [{"name": _PORT, "port": INTERNAL_PORT, "targetPort": _PORT, "protocol": "TCP"}],
        },
    }


def service_monitor(verdict: ServerVerdict, environment: Environment) -> Manifest | None:
    """Render the ServiceMonitor; None if it is not requested or the cluster does not know the kind."""
    server = verdict.server
    wanted = server.spec.service_monitor
    if wanted is None or KIND not in environment.apis:
        return None
    endpoint = {"port": _PORT, "path": "/metrics"}
    if wanted.interval is not None:
        endpoint["interval"] = wanted.interval
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": KIND,
        "metadata": metadata(server, extra_labels=wanted.labels),
        "spec": {
            "selector": {"matchLabels": {SERVER_LABEL: server.key.name, METRICS_LABEL: "true"}},
            "endpoints": [endpoint],
        },
    }
