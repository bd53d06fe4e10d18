"""What a server reads: the texts of its ConfigMap, the credentials, and the digest by which a replica reports both.

Whatever else a server is to read joins the texts here. What decides about it comes with the verdict.
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
from pywharf_operator.render.objects.cache import CACHE_KEY, cache_text
from pywharf_operator.render.objects.config_map import (
    REPOS_KEY,
    admin_secret_text,
    config_map,
    config_text,
    repos_text,
)
from pywharf_operator.render.objects.credentials import credentials_content, credentials_secrets, revision, shards
from pywharf_operator.render.objects.identity import IDENTITY_KEY, identity_keys, identity_text
from pywharf_operator.render.objects.policies import POLICIES_KEY, policies_digest, policies_map, policies_text
from pywharf_operator.render.resolve.resolution import RepoVerdict, ServerVerdict
from pywharf_operator.render.resolve.snapshot import Environment
from pywharf_operator.spec import ObjectKey


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """A server's configuration, as objects, and what is known about it."""

    credentials: tuple[Manifest, ...]
    """A Secret for each shard of the credentials."""
    policies: Manifest | None
    """The ConfigMap of the policies that the configuration names; None if there are none."""
    config_map: Manifest
    digest: str
    """The digest that replicas report while they serve this configuration."""
    contents: Mapping[str, str]
    """A hash of everything that the server receives about a repo, by its name, or a policy, by its namespace and name.

    The hashes stay in the operator.
    """

    def __repr__(self) -> str:
        """Hide the secrets."""
        return "Configuration(...)"


def configuration(verdict: ServerVerdict, environment: Environment) -> Configuration:
    """Render the configuration of one server. It takes 0.1 s for the digest alone, so run it in a thread."""
    folder = environment.credentials_folder
    content = credentials_content(verdict.secrets)
    revision_hex = revision(content, environment.session_key)
    made = shards(content)
    tables, admin = _tables(verdict)
    policies = policies_text(verdict.policies)
    identity = identity_text(verdict.identity)
    named = identity_keys(identity, folder)
    if policies:
        named |= {"policies_file": f"{folder}/{POLICIES_KEY}", "policies_digest": policies_digest(policies)}
    config = config_text(tables, revision_hex, len(made), folder, named)
    admin_secret = admin_secret_text(admin, folder)
    return Configuration(
        credentials=credentials_secrets(verdict.server, made, revision_hex),
        policies=policies_map(verdict.server, policies),
        config_map=config_map(
            verdict.server,
            config,
            admin_secret,
            {
                REPOS_KEY: repos_text(_owners(verdict)),
                IDENTITY_KEY: identity,
                CACHE_KEY: cache_text(verdict.server),
            },
        ),
        digest=_digest(config, admin_secret),
        contents={
            **{repo.name: _content(repo, environment.session_key) for repo in verdict.repos},
            **{one.name: hashlib.sha256(msgspec.json.encode(one)).hexdigest() for one in verdict.policies},
        },
    )


_Tables = dict[RepoName, BackendSpec | Mapping[str, Any]]


def _tables(verdict: ServerVerdict) -> tuple[_Tables, _Tables]:
    """Return each repo's table, and those of the repos with a backend secret."""
    tables: _Tables = {kept.name: kept.table for kept in verdict.kept}
    admin: _Tables = {kept.name: kept.admin_table for kept in verdict.kept if kept.admin_table is not None}
    for repo in verdict.repos:
        if repo.spec is not None:
            tables[repo.name] = repo.spec
            if repo.secrets.backend is not None:
                admin[repo.name] = repo.spec
    return tables, admin


def _owners(verdict: ServerVerdict) -> dict[RepoName, ObjectKey]:
    kept = {kept.name: kept.repo for kept in verdict.kept}
    return kept | {repo.name: repo.repo.key for repo in verdict.repos if repo.spec is not None}


def _content(verdict: RepoVerdict, session_key: bytes) -> str:
    digest = hmac.new(session_key, msgspec.json.encode(verdict.spec), hashlib.sha256)
    for use, value in sorted(verdict.secrets.given().items()):
        digest.update(f"{use} {len(value)} ".encode() + value)
    return digest.hexdigest()


@functools.lru_cache(maxsize=16)
def _digest(config: str, admin_secret: str) -> str:
    return config_digest(config, admin_secret)
