"""PURE. From resources to Kubernetes objects: the same in the cluster, in `pywharf render` and in `pywharf up`."""

import msgspec

from pywharf_operator.render.config_map import admin_secret_text, config_map, config_text
from pywharf_operator.render.credentials import credentials_content, credentials_secrets, revision, shards
from pywharf_operator.render.findings import ACCEPTED, SECRETS_RESOLVED, Finding
from pywharf_operator.render.labels import Manifest
from pywharf_operator.render.resolve import RepoVerdict, Resolution, ServerVerdict, resolve
from pywharf_operator.render.schedule import schedule_of
from pywharf_operator.render.sizes import config_rendered
from pywharf_operator.render.snapshot import Environment, NameClaim, Snapshot

__all__ = [
    "ACCEPTED",
    "SECRETS_RESOLVED",
    "Environment",
    "Finding",
    "NameClaim",
    "RenderedServer",
    "RepoVerdict",
    "Resolution",
    "ServerVerdict",
    "Snapshot",
    "render_server",
    "resolve",
    "schedule_of",
]


class RenderedServer(msgspec.Struct, frozen=True, kw_only=True):
    """A server's objects."""

    credentials: tuple[Manifest, ...]
    """The Secrets; they are applied first, as the ConfigMap names their revision."""
    config_map: Manifest
    config_rendered: Finding
    """False: the API server would not take them."""

    def __repr__(self) -> str:
        """Nothing of the secrets."""
        return "RenderedServer(...)"


def render_server(verdict: ServerVerdict, environment: Environment) -> RenderedServer:
    """The objects of one server, with the repos that it serves."""
    folder = environment.credentials_folder
    content = credentials_content({repo.name: repo.secrets for repo in verdict.repos})
    revision_hex = revision(content, environment.session_key)
    specs = {repo.name: repo.spec for repo in verdict.repos if repo.spec is not None}
    with_backend = {repo.name for repo in verdict.repos if repo.secrets.backend is not None}
    made = shards(content)
    secrets = credentials_secrets(verdict.server, made, revision_hex)
    config = config_map(
        verdict.server,
        config_text(specs, revision_hex, len(made), folder),
        admin_secret_text({name: spec for name, spec in specs.items() if name in with_backend}, folder),
    )
    return RenderedServer(credentials=secrets, config_map=config, config_rendered=config_rendered(config, secrets))
