"""How clients outside the cluster reach a server."""

from typing import Annotated

import msgspec
from msgspec import Meta

from pywharf_operator.spec.forms import HostName, Namespace, ObjectName
from pywharf_operator.spec.model import Model

_ANNOTATIONS = "Annotations of the object, as its controller wants them."


class Ingress(Model, frozen=True, kw_only=True):
    """An Ingress (networking.k8s.io/v1)."""

    class_name: Annotated[ObjectName | None, Meta(description="The IngressClass. Absent: the cluster's default.")] = (
        None
    )
    host: Annotated[HostName, Meta(description="The DNS name that clients use.")]
    tls_secret_name: Annotated[
        ObjectName | None,
        Meta(description="Secret with the host's certificate. Absent: the Ingress serves plain HTTP."),
    ] = None
    annotations: Annotated[dict[str, str], Meta(description=_ANNOTATIONS)] = msgspec.field(default_factory=dict)


class ParentRef(Model, frozen=True, kw_only=True):
    """A Gateway, or one listener of it."""

    name: Annotated[ObjectName, Meta(description="The Gateway's name.")]
    namespace: Annotated[Namespace | None, Meta(description="The Gateway's namespace. Absent: the server's own.")] = (
        None
    )
    section_name: Annotated[
        ObjectName | None, Meta(description="The listener's name. Absent: every listener that fits.")
    ] = None


class HttpRoute(Model, frozen=True, kw_only=True):
    """An HTTPRoute (gateway.networking.k8s.io/v1)."""

    parent_refs: Annotated[
        tuple[ParentRef, ...], Meta(min_length=1, max_length=32, description="The Gateways that it joins.")
    ]
    hostnames: Annotated[
        tuple[HostName, ...], Meta(max_length=16, description="DNS names that clients use. Empty: the Gateway's.")
    ] = ()
    annotations: Annotated[dict[str, str], Meta(description=_ANNOTATIONS)] = msgspec.field(default_factory=dict)
