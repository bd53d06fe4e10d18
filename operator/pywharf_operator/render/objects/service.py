"""The Service `<server>`, to which clients, Ingress and HTTPRoute connect."""

from pywharf_operator.render.labels import Manifest, metadata, selector
from pywharf_operator.render.resolve.resolution import ServerVerdict
from pywharf_operator.render.resolve.snapshot import Environment
from pywharf_operator.spec import PackageServer

_PORTS = {"http": 80, "https": 443}


def port_name(server: PackageServer) -> str:
    """Return the server's protocol, which is also its port's name."""
    return "http" if server.spec.tls is None else "https"


def port(server: PackageServer) -> int:
    """Return the Service's port, the default of its protocol."""
    return _PORTS[port_name(server)]


def service(verdict: ServerVerdict, environment: Environment) -> Manifest:
    """Render the Service. It does not expose the probes, the metrics and the configuration's report."""
    server = verdict.server
    name = port_name(server)
    wanted = server.spec.service
    chosen = {
        "loadBalancerClass": wanted.load_balancer_class,
        "externalTrafficPolicy": wanted.external_traffic_policy,
        "ipFamilyPolicy": wanted.ip_family_policy,
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(server, annotations=wanted.annotations),
        "spec": {
            "type": wanted.type,
            **{field: value for field, value in chosen.items() if value is not None},
            "selector": selector(server),
            "ports": [
                {"name": name, "appProtocol": name, "port": port(server), "targetPort": "http", "protocol": "TCP"}
            ],
        },
    }
