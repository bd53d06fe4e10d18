"""PURE. A configuration as the server serves it: each repo with its secrets in clear text."""

from collections.abc import Callable, Mapping

import msgspec

from pywharf.config.repo_config import BackendSpec, ServerConfig
from pywharf.core.access.deciding import NO_ENTRIES, CompiledEntries, compile_entries
from pywharf.core.access.identity_document import IdentityDocument
from pywharf.core.access.secrets import Credentials
from pywharf.core.access.trusted_issuers import TrustedIssuer
from pywharf.core.names import RepoName
from pywharf.core.policy.evaluation import RepoPolicies
from pywharf.core.policy.model import PolicyDocument
from pywharf.index.upstream.source import SourceCredentials


class RepoDefinition(msgspec.Struct, frozen=True):
    """One repo's configuration with its secrets in clear text."""

    spec: BackendSpec
    credentials: Credentials
    admin_secret: str | None
    source_credentials: tuple[SourceCredentials | None, ...] = ()
    """What is sent to each of the upstream's sources, in their order."""

    def __repr__(self) -> str:
        """Return a text without the secrets."""
        return "RepoDefinition(...)"

    def is_same_but_for_credentials(self, other: "RepoDefinition") -> bool:
        """Return whether nothing differs, or only the credentials do."""
        return (_without_credentials(self.spec), self.admin_secret, self.source_credentials) == (
            _without_credentials(other.spec),
            other.admin_secret,
            other.source_credentials,
        )


def _without_credentials(spec: BackendSpec) -> BackendSpec:
    return msgspec.structs.replace(spec, read_secret=None, write_secret=None, anonymous_read=False, access=())


class ServedPolicies(msgspec.Struct, frozen=True):
    """The policies of a configuration."""

    document: PolicyDocument = PolicyDocument()
    digest: str = ""
    """SHA-256 of the document's text, in hex; "": the configuration names none."""
    by_repo: Mapping[RepoName, RepoPolicies] = {}
    """The compiled policies of each repo that has any."""


NO_POLICIES = ServedPolicies()


class ServedIdentity(msgspec.Struct, frozen=True):
    """Whom a configuration believes."""

    document: IdentityDocument = IdentityDocument()
    digest: str = ""
    """SHA-256 of the document's text, in hex; "": the configuration names none."""
    issuers: Mapping[str, TrustedIssuer] = {}
    """By the `iss` of their tokens."""


NO_IDENTITY = ServedIdentity()


class LoadedConfig(msgspec.Struct, frozen=True):
    """A complete configuration: every secret and document that it names was found."""

    repos: Mapping[RepoName, RepoDefinition]
    digest: str
    """The digest of the texts, as replicas report it."""
    policies: ServedPolicies = NO_POLICIES
    identity: ServedIdentity = NO_IDENTITY


SOURCE_SECRETS = ("username", "password")
"""The fields of a source that hold secrets."""


def source_field(number: int, field: str) -> str:
    """Return the name of a field of one of the upstream's sources, as messages show it."""
    return f"upstream.sources[{number}].{field}"


def definitions(
    config: ServerConfig,
    secrets: Callable[[RepoName, str], str | None],
    compiled: Mapping[RepoName, CompiledEntries],
) -> Mapping[RepoName, RepoDefinition]:
    """Return each repo with its secrets; `secrets(repo, field)` returns one in clear text.

    Of the entries that were `compiled` before, those that stayed the same are used again.
    """
    return {
        name: RepoDefinition(
            spec,
            Credentials(
                read=secrets(name, "read_secret"),
                write=secrets(name, "write_secret"),
                anonymous_read=spec.anonymous_read,
                storage=" ".join(str(getattr(spec, field)) for field in spec.place),
                entries=compile_entries(name, spec.access, compiled.get(name, NO_ENTRIES)),
            ),
            secrets(name, "admin_secret"),
            _source_credentials(name, spec, secrets),
        )
        for name, spec in config.repos.items()
    }


def _source_credentials(
    name: RepoName, spec: BackendSpec, secrets: Callable[[RepoName, str], str | None]
) -> tuple[SourceCredentials | None, ...]:
    found: list[SourceCredentials | None] = []
    for number in range(len(spec.upstream.sources)):
        username, password = (secrets(name, source_field(number, field)) for field in SOURCE_SECRETS)
        found.append(None if username is None or password is None else SourceCredentials(username, password))
    return tuple(found)
