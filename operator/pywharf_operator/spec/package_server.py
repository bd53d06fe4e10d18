"""PackageServer: one stateless server and what it lends to repos."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from pywharf.config.forms import Url
from pywharf.core.endpoints import PUBLIC_ENDPOINTS
from pywharf_operator.spec.advisories import AdvisoryFeed
from pywharf_operator.spec.cache import Cache
from pywharf_operator.spec.conditions import Condition, Count, StatusModel, Text
from pywharf_operator.spec.exposure import HttpRoute, Ingress
from pywharf_operator.spec.forms import (
    Host,
    Image,
    NamePattern,
    Namespace,
    ObjectName,
    PodPath,
)
from pywharf_operator.spec.identity import Identity
from pywharf_operator.spec.jobs import Jobs
from pywharf_operator.spec.limits import Limits
from pywharf_operator.spec.metadata import ObjectKey, Resource
from pywharf_operator.spec.model import Model, Rule
from pywharf_operator.spec.monitoring import ServiceMonitor
from pywharf_operator.spec.own_metadata import OwnAnnotations, OwnLabels, key_rules
from pywharf_operator.spec.resources import Resources
from pywharf_operator.spec.security import Security
from pywharf_operator.spec.selector import LabelSelector
from pywharf_operator.spec.service import Service
from pywharf_operator.spec.service_account import ServiceAccount
from pywharf_operator.spec.staging import Staging
from pywharf_operator.spec.volume import Volume, volume_rules

PACKAGE_SERVER = "PackageServer"
MAX_NAME_LENGTH = 50
"""Of a server: the names of its own objects are longer, and a label's value holds 63 characters."""

Replicas = Annotated[int, Meta(ge=0, le=1000)]
AtLeastOne = Annotated[int, Meta(ge=1, le=1000)]
Hosts = Annotated[tuple[Host, ...], Meta(max_length=256)]


class Autoscaling(Model, frozen=True, kw_only=True):
    """Between how many replicas the server scales by its processor use."""

    rules = (
        Rule(
            cel="self.minReplicas <= self.maxReplicas",
            message="autoscaling: minReplicas is above maxReplicas; swap them",
            holds=lambda scaling: scaling.min_replicas <= scaling.max_replicas,
        ),
    )

    min_replicas: Annotated[AtLeastOne, Meta(description="The fewest replicas.")] = 1
    max_replicas: Annotated[AtLeastOne, Meta(description="The most replicas.")]
    target_cpu_utilization_percentage: Annotated[
        int, Meta(ge=1, le=100, description="Mean processor use to aim at, in percent of what is requested.")
    ] = 80


class Storage(Volume, frozen=True, kw_only=True):
    """The volume of fileSystem repos."""

    rules = volume_rules("storage")


class AllowedNamespaces(Model, frozen=True, kw_only=True):
    """From which namespaces repos may name this server."""

    rules = (
        Rule(
            cel="(self.from == 'Selector') == has(self.selector)",
            message="allowedNamespaces: give a selector with from: Selector, and only with it",
            holds=lambda allowed: (allowed.from_ == "Selector") == (allowed.selector is not None),
        ),
    )

    from_: Annotated[
        Literal["Same", "All", "Selector"],
        Meta(description="Same: the server's own namespace. All: every one. Selector: those whose labels match."),
    ] = "Same"
    selector: Annotated[LabelSelector | None, Meta(description="Labels of the namespaces that are allowed.")] = None


class AmbientIdentity(Model, frozen=True, kw_only=True):
    """Who may use the cloud identity that the server's pods have."""

    namespaces: Annotated[
        tuple[Namespace, ...],
        Meta(
            max_length=256,
            description=(
                "Namespaces whose s3, gcs and azure repos may do without a backendSecretRef. Each of their repos "
                "reaches whatever the identity may reach. Empty: none."
            ),
        ),
    ] = ()


class ServerUpstream(Model, frozen=True, kw_only=True):
    """What repos that say nothing of their own answer for projects they do not hold."""

    url: Annotated[
        Url | None, Meta(description="Simple index that is asked. Absent: the product's default, PyPI's.")
    ] = None
    mode: Annotated[
        Literal["None", "Pages", "Cached"],
        Meta(
            description=(
                "Pages: answer with that index's page. Cached: also keep its pages and files in the server's `cache`. "
                "None: never ask it."
            )
        ),
    ] = "Pages"
    reserved: Annotated[
        tuple[NamePattern, ...],
        Meta(
            max_length=256,
            description="Names, * for any characters, that no repo of this server looks up there.",
        ),
    ] = ()


class TlsSecretRef(Model, frozen=True, kw_only=True):
    """A Secret of type kubernetes.io/tls in the server's own namespace."""

    name: Annotated[ObjectName, Meta(description="The Secret's name; it holds tls.crt and tls.key.")]


class Tls(Model, frozen=True, kw_only=True):
    """TLS that the server itself speaks."""

    secret_ref: Annotated[TlsSecretRef, Meta(description="The certificate, a Secret of the server's own namespace.")]


class PackageServerSpec(Model, frozen=True, kw_only=True):
    """How the server runs, and what it allows repos."""

    rules = (
        Rule(
            # The API server fills in `replicas`, so that the subresource `scale` always has a number.
            cel="!has(self.autoscaling) || !has(self.replicas) || self.replicas == 1",
            message="replicas and autoscaling exclude each other; leave one out",
            holds=lambda spec: spec.replicas == 1 or spec.autoscaling is None,
        ),
        *key_rules("labels", "annotations"),
    )

    image: Annotated[Image | None, Meta(description="Container image. Absent: the operator's own.")] = None
    replicas: Annotated[
        Replicas,
        Meta(
            description=(
                "How many replicas run, also by `kubectl scale` and a HorizontalPodAutoscaler of your own on the "
                "PackageServer. With `autoscaling` it has no effect and must be left out."
            )
        ),
    ] = 1
    autoscaling: Annotated[Autoscaling | None, Meta(description="Scales the replicas by their processor use.")] = None
    resources: Annotated[
        Resources | None, Meta(description="What a replica asks for and may use. Absent: the operator's values.")
    ] = None
    labels: Annotated[
        OwnLabels,
        Meta(
            description=(
                "Labels of every object and pod that is made for the server, Jobs and their pods included. A change "
                "restarts the pods."
            )
        ),
    ] = msgspec.field(default_factory=dict)
    annotations: Annotated[
        OwnAnnotations,
        Meta(
            description=(
                "Annotations of every object and pod that is made for the server, Jobs and their pods included. A "
                "change restarts the pods."
            )
        ),
    ] = msgspec.field(default_factory=dict)
    security: Annotated[Security, Meta(description="How pods fit what the cluster admits.")] = Security()
    storage: Annotated[
        Storage | None,
        Meta(description="The volume that fileSystem repos are kept on. Absent: no volume, so such repos are refused."),
    ] = None
    staging: Annotated[
        Staging, Meta(description="The folder in which uploads lie until they are stored, on a server without storage.")
    ] = Staging()
    allowed_namespaces: Annotated[
        AllowedNamespaces, Meta(description="From which namespaces repos may name this server.")
    ] = AllowedNamespaces()
    allowed_endpoints: Annotated[
        Hosts | None,
        Meta(
            description=(
                "Hosts that repos may name as apiURL, endpoint or upstream, and that redirects may lead to, with :port "
                "for a port of its own; *.HOST stands for every subdomain and * for any host with a public address. A "
                "listed host may have a private address; loopback, link-local and metadata addresses are refused "
                f"unless they are listed as they are. Absent: {', '.join(PUBLIC_ENDPOINTS)}."
            ),
        ),
    ] = None
    limits: Annotated[Limits, Meta(description="How much of the server one namespace may take.")] = Limits()
    service_account: Annotated[
        ServiceAccount, Meta(description="The ServiceAccount that a cloud's identity is bound to.")
    ] = ServiceAccount()
    ambient_identity: Annotated[
        AmbientIdentity, Meta(description="Who may use the cloud identity that the server's pods have.")
    ] = AmbientIdentity()
    given_identity: Annotated[
        Identity | None, Meta(description="By what clients prove who they are, for the access entries of repos.")
    ] = msgspec.field(default=None, name="identity")
    upstream: Annotated[
        ServerUpstream, Meta(description="What repos answer for projects they do not hold, unless they say.")
    ] = ServerUpstream()
    cache: Annotated[
        Cache | None,
        Meta(
            description=(
                "Where pages and files of other indexes are kept for repos whose upstream mode is Cached. Absent: "
                "such repos are refused."
            )
        ),
    ] = None
    advisories: Annotated[
        AdvisoryFeed | None,
        Meta(description="The feed of advisories that policies and clients ask for. Absent: there is none."),
    ] = None
    auth_read_expires: Annotated[
        int, Meta(ge=0, le=31_536_000, description="Seconds for which a read permission is remembered.")
    ] = 3600
    auth_write_expires: Annotated[
        int, Meta(ge=0, le=31_536_000, description="Seconds for which a write permission is remembered.")
    ] = 300
    jobs: Annotated[Jobs, Meta(description="What the Jobs that update indexes have apart from the server.")] = Jobs()
    service: Annotated[Service, Meta(description="How the server's Service is reached.")] = Service()
    tls: Annotated[Tls | None, Meta(description="TLS that the server itself speaks. Absent: plain HTTP.")] = None
    ingress: Annotated[Ingress | None, Meta(description="An Ingress in front of the server.")] = None
    http_route: Annotated[
        HttpRoute | None, Meta(description="An HTTPRoute of the Gateway API in front of the server.")
    ] = None
    service_monitor: Annotated[
        ServiceMonitor | None, Meta(description="A ServiceMonitor of the Prometheus operator for the server's metrics.")
    ] = None
    pod_template: Annotated[
        dict[str, Any],
        Meta(
            description=(
                "Merged into the Deployment's pod template (metadata and spec, by strategic merge). Jobs take over "
                "what the documentation lists, no labels or annotations. Whoever may write it may create pods in this "
                "namespace."
            )
        ),
    ] = msgspec.field(default_factory=dict)
    pod_template_removals: Annotated[
        tuple[PodPath, ...],
        Meta(
            max_length=64,
            description=(
                "Parts of the operator's own pod template to leave out, before podTemplate is merged into it. Each "
                "is a path: fields after dots, and in brackets the name of a list's item or a key with dots in it."
            ),
        ),
    ] = ()

    @property
    def identity(self) -> Identity:
        """By what clients prove who they are.

        The schema has no default for it: an operator of an earlier release refuses a field that it does not know.
        """
        return self.given_identity or Identity()


class RepoCounts(StatusModel, frozen=True, kw_only=True):
    """How many repos name this server."""

    total: Annotated[int, Meta(ge=0, description="Repos that name this server.")] = 0
    ready: Annotated[int, Meta(ge=0, description="Those of them that are Ready.")] = 0


class PackageServerStatus(StatusModel, frozen=True, kw_only=True):
    """What the operator observed."""

    observed_generation: Annotated[
        Count | None, Meta(description="The metadata.generation that this status speaks of.")
    ] = None
    url: Annotated[Text | None, Meta(description="Where clients reach the server.")] = None
    repos: Annotated[RepoCounts | None, Meta(description="How many repos name this server.")] = None
    replicas: Annotated[Count | None, Meta(description="Replicas that are ready.")] = None
    selector: Annotated[
        Text | None, Meta(description="The labels of the replicas' pods, as a selector for the subresource scale.")
    ] = None
    conditions: Annotated[
        tuple[Condition, ...],
        Meta(
            max_length=16,
            description="Accepted, ConfigRendered, NamespacesRead, IdentityReady and Ready.",
            extra={"list_map_keys": ("type",)},
        ),
    ] = ()


def _short_name(server: "PackageServer") -> bool:
    name = server.metadata.name
    return len(name) <= MAX_NAME_LENGTH and "." not in name and name[:1].isalpha()


class PackageServer(Resource, frozen=True, kw_only=True):
    """A stateless server that serves the PackageRepos that name it."""

    rules = (
        Rule(
            cel=r"self.metadata.name.size() <= 50 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            message=(
                "metadata.name also names the server's Service; use at most 50 lower-case letters, digits and '-', "
                "beginning with a letter"
            ),
            holds=_short_name,
        ),
    )

    spec: Annotated[PackageServerSpec, Meta(description="How the server runs, and what it allows repos.")] = (
        PackageServerSpec()
    )
    status: Annotated[
        PackageServerStatus | None, Meta(description="What the operator observed. Only it writes here.")
    ] = None

    @property
    def tls_secret(self) -> ObjectKey | None:
        """The Secret with the server's certificate, if it speaks TLS itself."""
        tls = self.spec.tls
        return None if tls is None else ObjectKey(self.key.namespace, tls.secret_ref.name)

    @property
    def volumes(self) -> tuple[Volume, ...]:
        """The volumes that each replica mounts."""
        cache = self.spec.cache
        given = (self.spec.storage, None if cache is None else cache.file_system)
        return tuple(volume for volume in given if volume is not None)

    @property
    def most_replicas(self) -> int:
        """How many replicas may run concurrently."""
        if self.spec.autoscaling is not None:
            return self.spec.autoscaling.max_replicas
        return self.spec.replicas
