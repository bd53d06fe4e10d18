"""PURE. Rendering of resources into Kubernetes objects.

It is the same in the cluster, in `pywharf render` and in `pywharf up`.
"""

from collections.abc import Mapping

import msgspec

from pywharf_operator.render.labels import Manifest
from pywharf_operator.render.objects.autoscaler import autoscaler
from pywharf_operator.render.objects.client_config import client_configs
from pywharf_operator.render.objects.configuration import configuration
from pywharf_operator.render.objects.cron_job import cron_jobs
from pywharf_operator.render.objects.deployment import deployment
from pywharf_operator.render.objects.disruption_budget import disruption_budget
from pywharf_operator.render.objects.http_route import http_route
from pywharf_operator.render.objects.ingress import ingress
from pywharf_operator.render.objects.network_policy import index_network_policy, network_policy
from pywharf_operator.render.objects.service import service
from pywharf_operator.render.objects.service_accounts import index_account, server_account
from pywharf_operator.render.objects.service_monitor import metrics_service, service_monitor
from pywharf_operator.render.objects.volume_claim import cache_claim, volume_claim
from pywharf_operator.render.resolve.findings import ACCEPTED, SECRETS_RESOLVED, Finding
from pywharf_operator.render.resolve.kept import KeptRepo, repos_applied
from pywharf_operator.render.resolve.object_sizes import config_rendered
from pywharf_operator.render.resolve.policies import PolicyReach
from pywharf_operator.render.resolve.resolution import RepoVerdict, Resolution, ServerVerdict, resolve
from pywharf_operator.render.resolve.schedule import schedule_of
from pywharf_operator.render.resolve.snapshot import Environment, NameClaim, Snapshot
from pywharf_operator.spec import ObjectKey

__all__ = [
    "ACCEPTED",
    "SECRETS_RESOLVED",
    "Environment",
    "Finding",
    "KeptRepo",
    "NameClaim",
    "PolicyReach",
    "RenderedServer",
    "RepoVerdict",
    "Resolution",
    "ServerVerdict",
    "Snapshot",
    "render_server",
    "repos_applied",
    "resolve",
    "schedule_of",
]


# In the order in which they are applied.
_WORKLOAD = (
    server_account,
    index_account,
    volume_claim,
    cache_claim,
    network_policy,
    index_network_policy,
    service,
    metrics_service,
    deployment,
    disruption_budget,
    autoscaler,
    ingress,
    http_route,
    service_monitor,
)


class RenderedServer(msgspec.Struct, frozen=True, kw_only=True):
    """A server's objects, and what is known about them."""

    credentials: tuple[Manifest, ...]
    """The Secrets. They are applied first, as the ConfigMap names their revision."""
    policies: Manifest | None = None
    """The ConfigMap of the policies, applied before the configuration that names it; None if there are none."""
    config_map: Manifest
    workload: tuple[Manifest, ...]
    """The objects that run and expose the server. Empty if the server is not accepted."""
    cron_jobs: tuple[Manifest, ...]
    """One for each repo. Empty if the server is not accepted."""
    client_configs: Mapping[ObjectKey, Manifest] = {}
    """The ConfigMap of each repo that asks for one, by the repo. Empty if the server is not accepted."""
    config_rendered: Finding
    """The condition ConfigRendered. False: the API server would refuse the configuration."""
    contents: Mapping[str, str]
    """A hash of everything that the server receives about a repo, by its name, or a policy, by its namespace and name.

    The hashes stay in the operator.
    """
    digest: str
    """The digest that replicas report while they serve this configuration."""

    def __repr__(self) -> str:
        """Hide the secrets."""
        return "RenderedServer(...)"

    @property
    def objects(self) -> tuple[Manifest, ...]:
        """All objects, in the order in which they are applied."""
        policies = () if self.policies is None else (self.policies,)
        of_repos = (*self.cron_jobs, *self.client_configs.values())
        return (*self.credentials, *policies, self.config_map, *self.workload, *of_repos)


def render_server(verdict: ServerVerdict, environment: Environment) -> RenderedServer:
    """Render the objects of one server, with the repos that it serves.

    What several objects need is made once: the pod template by `resolve`, which must know whether it fits, and the
    configuration here.
    """
    read = configuration(verdict, environment)
    runs = verdict.accepted.status
    workload = (make(verdict, environment) for make in _WORKLOAD) if runs else ()
    return RenderedServer(
        credentials=read.credentials,
        policies=read.policies,
        config_map=read.config_map,
        workload=tuple(manifest for manifest in workload if manifest is not None),
        cron_jobs=cron_jobs(verdict, environment, shard_count=len(read.credentials)) if runs else (),
        client_configs=client_configs(verdict, environment) if runs else {},
        config_rendered=config_rendered(read.config_map, read.credentials, verdict.refused),
        contents=read.contents,
        digest=read.digest,
    )
