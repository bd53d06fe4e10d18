"""The kinds that a server asks for and the cluster does not know."""

from pywharf_operator.render.objects.http_route import KIND as HTTP_ROUTE
from pywharf_operator.render.objects.service_monitor import KIND as SERVICE_MONITOR
from pywharf_operator.render.resolve.findings import Finding
from pywharf_operator.render.resolve.snapshot import Environment
from pywharf_operator.spec import PackageServer


def api_missing(server: PackageServer, environment: Environment) -> Finding | None:
    """Return the finding for the condition Ready; None if no kind is missing."""
    asked = {
        HTTP_ROUTE: ("spec.httpRoute", server.spec.http_route, "install the Gateway API"),
        SERVICE_MONITOR: ("spec.serviceMonitor", server.spec.service_monitor, "install the Prometheus operator"),
    }
    sentences = [
        f"The cluster does not know the kind {kind}, so {field} has no effect: {remedy}, or leave the field out."
        for kind, (field, wanted, remedy) in asked.items()
        if wanted is not None and kind not in environment.apis
    ]
    return Finding(status=False, reason="ApiMissing", message=" ".join(sentences)) if sentences else None
