"""The HTTPRoute `<server>` of the Gateway API."""

from typing import Final

from pywharf_operator.render.labels import Manifest, metadata, object_name
from pywharf_operator.render.objects.service import port
from pywharf_operator.render.resolve.resolution import ServerVerdict
from pywharf_operator.render.resolve.snapshot import Environment
from pywharf_operator.spec.exposure import ParentRef

KIND: Final = "HTTPRoute"


def http_route(verdict: ServerVerdict, environment: Environment) -> Manifest | None:
    """Render the HTTPRoute; None if it is not requested or the cluster does not know the kind."""
    server = verdict.server
    wanted = server.spec.http_route
    if wanted is None or KIND not in environment.apis:
        return None
    spec: Manifest = {
        "parentRefs": [_parent(ref) for ref in wanted.parent_refs],
        "rules": [{"backendRefs": [{"name": object_name(server), "port": port(server)}]}],
    }
    if wanted.hostnames:
        spec["hostnames"] = list(wanted.hostnames)
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": KIND,
        "metadata": metadata(server, annotations=wanted.annotations),
        "spec": spec,
    }


def _parent(ref: ParentRef) -> Manifest:
    given = {"name": ref.name, "namespace": ref.namespace, "sectionName": ref.section_name}
    return {field: value for field, value in given.items() if value is not None}
