"""The ConfigMap of `spec.clientConfig`: what pip and uv need in a pod that shows its ServiceAccount's token.

It is an object of the PackageRepo, in its namespace. docs/in-cluster-clients.md says how pods use it.
"""

import importlib.resources
from collections.abc import Mapping
from typing import Final

from pywharf.core.names import RepoName
from pywharf_operator.render.labels import Manifest, owner_references
from pywharf_operator.render.resolve.authority import AUTHORITY_KEY
from pywharf_operator.render.resolve.resolution import RepoVerdict, ServerVerdict
from pywharf_operator.render.resolve.snapshot import Environment
from pywharf_operator.render.urls import base_url, repo_url
from pywharf_operator.spec import ObjectKey, PackageServer
from pywharf_operator.spec.names import COMPONENT_LABEL, MANAGED_BY_LABEL, MANAGER, REPO_LABEL

OWN_LABELS: Final = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/part-of",
    COMPONENT_LABEL,
    MANAGED_BY_LABEL,
    REPO_LABEL,
)
"""The labels by which a ConfigMap without an owner is known. The server's name is not one: a repo may change it."""
FOLDER: Final = "/etc/pywharf-client"
"""Where pods mount the ConfigMap: the files name one another by it."""
_PLACEHOLDER: Final = "https://pywharf.invalid"
_PROGRAM: Final = importlib.resources.files(__package__).joinpath("keyring.sh").read_text(encoding="utf-8")


def client_configs(verdict: ServerVerdict, environment: Environment) -> Mapping[ObjectKey, Manifest]:
    """Render the ConfigMap of each served repo that asks for one, by the repo."""
    return {
        repo.repo.key: _config_map(repo, verdict) for repo in verdict.repos if repo.repo.spec.client_config is not None
    }


def client_labels(server: PackageServer, name: RepoName) -> dict[str, str]:
    """Return our own labels. The server's label is not among them: the ConfigMap is not one of its objects."""
    return {
        "app.kubernetes.io/name": "pywharf",
        "app.kubernetes.io/instance": server.key.name,
        "app.kubernetes.io/part-of": "pywharf",
        COMPONENT_LABEL: "clients",
        MANAGED_BY_LABEL: MANAGER,
        REPO_LABEL: name,
    }


def keyring(*urls: str) -> str:
    """Return the program for the server that has these addresses."""
    return _PROGRAM.replace(_PLACEHOLDER, " ".join(urls))


def _config_map(repo: RepoVerdict, verdict: ServerVerdict) -> Manifest:
    assert repo.repo.spec.client_config is not None  # noqa: S101 - the caller has seen it
    server, has_authority = verdict.server, bool(verdict.authority.text)
    metadata: Manifest = {
        "name": repo.repo.spec.client_config.config_map,
        "namespace": repo.repo.key.namespace,
        "labels": {**server.spec.labels, **client_labels(server, repo.name)},
    }
    if server.spec.annotations:
        metadata["annotations"] = dict(server.spec.annotations)
    if repo.repo.metadata.uid is not None:
        metadata["ownerReferences"] = owner_references(repo.repo)
    data = {
        "pip.conf": _pip_conf(server, repo.name, has_authority=has_authority),
        "uv.toml": _uv_toml(server, repo.name, has_authority=has_authority),
        "keyring": keyring(base_url(server)),
    }
    if has_authority:
        data[AUTHORITY_KEY] = verdict.authority.text
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _pip_conf(server: PackageServer, name: RepoName, *, has_authority: bool) -> str:
    """Return the file. It has one index: with a second one pip would go on to it even after a refusal."""
    lines = ["[global]", f"index-url = {repo_url(server, name)}", "keyring-provider = subprocess"]
    if has_authority:
        lines.append(f"cert = {FOLDER}/{AUTHORITY_KEY}")
    if server.spec.tls is None:
        # pip refuses plain HTTP to any other host than its own.
        lines.append(f"trusted-host = {base_url(server).partition('://')[2]}")
    return "".join(f"{line}\n" for line in lines)


def _uv_toml(server: PackageServer, name: RepoName, *, has_authority: bool) -> str:
    """Return the file. uv asks the keyring without a user name only where it must always authenticate."""
    url = repo_url(server, name)
    note = f"# uv reads the authority by its environment: SSL_CERT_FILE={FOLDER}/{AUTHORITY_KEY}\n"
    return (note if has_authority else "") + (
        f'keyring-provider = "subprocess"\npublish-url = "{url}"\n\n[[index]]\nurl = "{url}"\ndefault = true\n'
        'authenticate = "always"\n'
    )
