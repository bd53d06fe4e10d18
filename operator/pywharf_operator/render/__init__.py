"""PURE. Rendering of resources into Kubernetes objects.

It is the same in the cluster, in `pywharf render` and in `pywharf up`.
"""

import functools
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import msgspec

from pywharf.config.repo_config import BackendSpec, config_digest
from pywharf.core.names import RepoName
from pywharf_operator.render.labels import Manifest
from pywharf_operator.render.objects.autoscaler import autoscaler
from pywharf_operator.render.objects.config_map import (
    ADMIN_SECRET_KEY,
    CONFIG_KEY,
    admin_secret_text,
    config_map,
    config_text,
    repos_text,
    texts_of,
)
from pywharf_operator.render.objects.credentials import credentials_content, credentials_secrets, revision, shards
from pywharf_operator.render.objects.cron_job import cron_jobs
from pywharf_operator.render.objects.deployment import deployment
from pywharf_operator.render.objects.disruption_budget import disruption_budget
from pywharf_operator.render.objects.http_route import http_route
from pywharf_operator.render.objects.ingress import ingress
from pywharf_operator.render.objects.network_policy import index_network_policy, network_policy
from pywharf_operator.render.objects.service import service
from pywharf_operator.render.objects.service_accounts import index_account, server_account
from pywharf_operator.render.objects.service_monitor import metrics_service, service_monitor
from pywharf_operator.render.objects.volume_claim import volume_claim
from pywharf_operator.render.resolve.findings import ACCEPTED, SECRETS_RESOLVED, Finding
from pywharf_operator.render.resolve.kept import KeptRepo, repos_applied
from pywharf_operator.render.resolve.object_sizes import config_rendered
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
    config_map: Manifest
    workload: tuple[Manifest, ...]
    """The objects that run and expose the server. Empty if the server is not accepted."""
    cron_jobs: tuple[Manifest, ...]
    """One for each repo. Empty if the server is not accepted."""
    config_rendered: Finding
    """The condition ConfigRendered. False: the API server would refuse the configuration."""
    contents: Mapping[RepoName, str]
    """A hash, by repo, of everything that the server receives about it. The hashes stay in the operator."""

    def __repr__(self) -> str:
        """Hide the secrets."""
        return "RenderedServer(...)"

    @property
    def digest(self) -> str:
        """The digest that replicas report while they serve this configuration."""
        texts = texts_of(self.config_map)
        return _digest(texts[CONFIG_KEY], texts[ADMIN_SECRET_KEY])

    @property
    def objects(self) -> tuple[Manifest, ...]:
        """All objects, in the order in which they are applied."""
        return (*self.credentials, self.config_map, *self.workload, *self.cron_jobs)


def render_server(verdict: ServerVerdict, environment: Environment) -> RenderedServer:
    """Render the objects of one server, with the repos that it serves."""
    folder = environment.credentials_folder
    content = credentials_content(verdict.secrets)
    revision_hex = revision(content, environment.session_key)
    tables: dict[RepoName, BackendSpec | Mapping[str, Any]] = {}
    admin: dict[RepoName, BackendSpec | Mapping[str, Any]] = {}
    owners: dict[RepoName, ObjectKey] = {}
    for kept in verdict.kept:
        tables[kept.name] = kept.table
        owners[kept.name] = kept.repo
        if kept.admin_table is not None:
            admin[kept.name] = kept.admin_table
    for repo in verdict.repos:
        if repo.spec is not None:
            tables[repo.name] = repo.spec
            owners[repo.name] = repo.repo.key
            if repo.secrets.backend is not None:
                admin[repo.name] = repo.spec
    made = shards(content)
    secrets = credentials_secrets(verdict.server, made, revision_hex)
    config = config_map(
        verdict.server,
        config_text(tables, revision_hex, len(made), folder),
        admin_secret_text(admin, folder),
        repos_text(owners),
    )
    runs = verdict.accepted.status
    workload = (make(verdict, environment) for make in _WORKLOAD) if runs else ()
    return RenderedServer(
        credentials=secrets,
        config_map=config,
        workload=tuple(manifest for manifest in workload if manifest is not None),
        cron_jobs=cron_jobs(verdict, environment) if runs else (),
        config_rendered=config_rendered(config, secrets, verdict.refused),
        contents={repo.name: _content(repo, environment.session_key) for repo in verdict.repos},
    )


def _content(verdict: RepoVerdict, session_key: bytes) -> str:
    digest = hmac.new(session_key, msgspec.json.encode(verdict.spec), hashlib.sha256)
    for use, value in sorted(verdict.secrets.given().items()):
        digest.update(f"{use} {len(value)} ".encode() + value)
    return digest.hexdigest()


@functools.lru_cache(maxsize=16)
def _digest(config: str, admin_secret: str) -> str:
    return config_digest(config, admin_secret)
