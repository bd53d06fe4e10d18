"""The Ingress `<server>`."""

from pywharf_operator.render.labels import Manifest, metadata, object_name
from pywharf_operator.render.objects.service import port_name
from pywharf_operator.render.resolve.resolution import ServerVerdict
from pywharf_operator.render.resolve.snapshot import Environment


def ingress(verdict: ServerVerdict, environment: Environment) -> Manifest | None:
    """Render the Ingress; None if it is not requested."""
    server = verdict.server
    wanted = server.spec.ingress
    if wanted is None:
        return None
    backend = {"service": {"name": object_name(server), "port": {"name": port_name(server)}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    spec: Manifest = {"rules": [{"host": wanted.host, "http": {"paths": paths}}]}
    if wanted.class_name is not None:
        spec["ingressClassName"] = wanted.class_name
    if wanted.tls_secret_name is not None:
        spec["tls"] = [{"hosts": [wanted.host], "secretName": wanted.tls_secret_name}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata(server, annotations=wanted.annotations),
        "spec": spec,
    }
