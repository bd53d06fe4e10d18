"""How the Service in front of a server is reached."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pywharf_operator.spec.forms import LoadBalancerClass
from pywharf_operator.spec.model import Model, Rule
from pywharf_operator.spec.own_metadata import OwnAnnotations, key_rules


class Service(Model, frozen=True, kw_only=True):
    """The Service `<server>`."""

    rules = (
        Rule(
            cel="!has(self.loadBalancerClass) || (has(self.type) && self.type == 'LoadBalancer')",
            message="service: loadBalancerClass needs type: LoadBalancer; leave it out, or set the type",
            holds=lambda service: service.load_balancer_class is None or service.type == "LoadBalancer",
        ),
        Rule(
            cel="!has(self.externalTrafficPolicy) || (has(self.type) && self.type in ['NodePort', 'LoadBalancer'])",
            message=(
                "service: externalTrafficPolicy needs type: NodePort or type: LoadBalancer; leave it out, or set the "
                "type"
            ),
            holds=lambda service: service.external_traffic_policy is None or service.type != "ClusterIP",
        ),
        *key_rules("annotations"),
    )

    type: Annotated[
        Literal["ClusterIP", "NodePort", "LoadBalancer"],
        Meta(
            description=(
                "ClusterIP: pods of the cluster reach it. NodePort: a port of every node leads to it, too. "
                "LoadBalancer: an address of the cloud's or the cluster's load balancer does."
            )
        ),
    ] = "ClusterIP"
    annotations: Annotated[
        OwnAnnotations, Meta(description="Annotations of the Service, as its load balancer or mesh wants them.")
    ] = msgspec.field(default_factory=dict)
    load_balancer_class: Annotated[
        LoadBalancerClass | None,
        Meta(
            description=(
                "Which load balancer implementation provides the address. Kubernetes lets nobody change it while the "
                "type is LoadBalancer. Absent: the cluster's default."
            )
        ),
    ] = None
    external_traffic_policy: Annotated[
        Literal["Cluster", "Local"] | None,
        Meta(
            description=(
                "Cluster: any node passes requests on. Local: only nodes with a replica do, and the server sees the "
                "clients' addresses. Absent: Cluster."
            )
        ),
    ] = None
    ip_family_policy: Annotated[
        Literal["SingleStack", "PreferDualStack", "RequireDualStack"] | None,
        Meta(description="Whether the Service has an IPv4 and an IPv6 address. Absent: the cluster's default."),
    ] = None
