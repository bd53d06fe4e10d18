"""The Secrets that a repo names: looked up and checked."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from pywharf.core.secret_text import secret_text
from pywharf_operator.render.resolve.findings import Finding
from pywharf_operator.render.resolve.store_secrets import fault_of_store_secret
from pywharf_operator.spec import CREDENTIALS_LABEL, ObjectKey, PackageRepo, PackageServer, Secret
from pywharf_operator.spec.package_repo import UpstreamSource

MAX_BYTES = 16 * 1024
"""Most bytes of a secret. Tokens, passwords and account keys are far shorter; one repo must not fill the space that all
share."""


SOURCE_FIELDS: Final = ("username", "password")
"""The keys of a Secret with a source's credentials, which are also the fields of the server's table."""
_SOURCE_USE: Final = re.compile(r"source-[0-9a-f]{16}-(username|password)\Z")
_DIGITS: Final = 16


class RepoSecrets(msgspec.Struct, frozen=True, kw_only=True):
    """A repo's secrets in plain text."""

    read: bytes | None = None
    write: bytes | None = None
    backend: bytes | None = None
    sources: Mapping[str, bytes] = {}
    """Those of the upstream's sources, by use; see `source_use`."""

    def __repr__(self) -> str:
        """Hide the secrets."""
        return "RepoSecrets(...)"

    def given(self) -> dict[str, bytes]:
        """Return the secrets that are set, by use."""
        own = {use: value for use in DIRECT_USES if (value := getattr(self, use)) is not None}
        return own | dict(self.sources)


DIRECT_USES: Final = ("read", "write", "backend")
"""The uses of secrets that are fields of RepoSecrets."""


def source_use(source: UpstreamSource, field: str) -> str:
    """Return the use of one value of a source's credentials.

    It follows from where the value is sent and which Secret it is of, not from the source's number: while replicas
    still have an older configuration, a value must not reach the index that had this number there.
    """
    ref = source.credentials_secret_ref
    named = f"{source.url}\0{'' if ref is None else ref.name}"
    return f"source-{hashlib.sha256(named.encode()).hexdigest()[:_DIGITS]}-{field}"


def source_uses(table: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the uses of the source credentials that a repo's table names, as `source_use` made them."""
    upstream = table.get("upstream")
    sources = upstream.get("sources") if isinstance(upstream, Mapping) else None
    uses = []
    for source in sources if isinstance(sources, Sequence) else ():
        for field in SOURCE_FIELDS:
            secret = source.get(field) if isinstance(source, Mapping) else None
            path = secret.get("file") if isinstance(secret, Mapping) else None
            use = str(path).rpartition(".")[2]
            if _SOURCE_USE.match(use):
                uses.append(use)
    return tuple(dict.fromkeys(uses))


def resolve_secrets(
    repo: PackageRepo, server: PackageServer | None, secrets: Mapping[ObjectKey, Secret]
) -> tuple[Finding, RepoSecrets]:
    """Return the condition SecretsResolved and the secrets. The message names every fault, the reason the first."""
    credentials = repo.spec.credentials
    refs = {
        "read": credentials.read_secret_ref,
        "write": credentials.write_secret_ref,
        "backend": credentials.backend_secret_ref,
    }
    faults = _lacking(repo, server)
    found: dict[str, bytes] = {}
    for use, ref in refs.items():
        if ref is None:
            continue
        named = _Named(repo, f"spec.credentials.{use}SecretRef", ref.name)
        value = _read(named, secrets, ref.key)
        if isinstance(value, bytes) and use == "backend":
            value = _store_secret(named, ref.key, value)
        if isinstance(value, bytes):
            found[use] = value
        else:
            faults.append(value)
    sources, of_sources = _source_secrets(repo, secrets)
    faults += of_sources
    if faults:
        message = " ".join(sentence for _, sentence in faults)
        return Finding(status=False, reason=faults[0][0], message=message), RepoSecrets()
    return Finding(status=True, reason="Resolved", message="Every secret was found."), RepoSecrets(
        **found, sources=sources
    )


def lends_to(server: PackageServer, namespace: str) -> bool:
    """Return whether repos of the namespace may use the cloud identity of the server's pods."""
    return namespace in server.spec.ambient_identity.namespaces


def lends_identity(server: PackageServer | None, repo: PackageRepo) -> bool:
    """Return whether the repo, which has no secret of its own, uses the cloud identity of the server's pods."""
    if server is None or repo.spec.backend.object_store is None or repo.spec.credentials.backend_secret_ref is not None:
        return False
    return lends_to(server, repo.key.namespace)


def _lacking(repo: PackageRepo, server: PackageServer | None) -> list[tuple[str, str]]:
    """Return a reason and a sentence for each reference that this backend needs and the repo lacks."""
    credentials, backend = repo.spec.credentials, repo.spec.backend
    sentences = []
    # A repo with access entries needs no secret.
    if backend.github is None and not repo.spec.access:
        if credentials.read_secret_ref is None and not credentials.anonymous_read:
            sentences.append(
                "spec.credentials.readSecretRef is missing: name the secret that clients read with, give spec.access "
                "an entry, or say anonymousRead: true."
            )
        if credentials.write_secret_ref is None and not credentials.read_only:
            sentences.append(
                "spec.credentials.writeSecretRef is missing: name the secret that clients publish with, give "
                "spec.access an entry, or say readOnly: true."
            )
    faults = [("NoCredentials", sentence) for sentence in sentences]
    if credentials.backend_secret_ref is not None:
        return faults
    if backend.github is not None:
        needed = "spec.credentials.backendSecretRef is missing: name the GitHub token or App that the server uses."
        faults.append(("NoCredentials", needed))
    if backend.object_store is not None and not lends_identity(server, repo):
        needed = (
            "spec.credentials.backendSecretRef is missing: name the storage's keys; or, for the cloud identity of the "
            f"server's pods, have spec.ambientIdentity.namespaces of PackageServer {repo.server_key} list "
            f"{repo.key.namespace}, which it does not."
        )
        faults.append(("AmbientIdentityNotAllowed", needed))
    return faults


class _Named(msgspec.Struct, frozen=True):
    """A Secret that a field of a repo names."""

    repo: PackageRepo
    field: str
    name: str

    @property
    def key(self) -> ObjectKey:
        """Its namespace and name: a repo names Secrets of its own namespace."""
        return ObjectKey(self.repo.key.namespace, self.name)


def _source_secrets(
    repo: PackageRepo, secrets: Mapping[ObjectKey, Secret]
) -> tuple[dict[str, bytes], list[tuple[str, str]]]:
    """Return the credentials of the upstream's sources, by use, and a reason and a sentence for each fault."""
    found: dict[str, bytes] = {}
    faults: list[tuple[str, str]] = []
    for number, source in enumerate(repo.spec.upstream.sources):
        ref = source.credentials_secret_ref
        if ref is None:
            continue
        named = _Named(repo, f"spec.upstream.sources[{number}].credentialsSecretRef", ref.name)
        for field in SOURCE_FIELDS:
            value = _read(named, secrets, field)
            if isinstance(value, bytes) and (fault := _fault_of_credentials(field, value)) is not None:
                value = ("SecretInvalid", f"{named.field}: the value of {field!r} in Secret {named.key} {fault}")
            if isinstance(value, bytes):
                found[source_use(source, field)] = value
            else:
                faults.append(value)
                if value[0] in {"SecretNotFound", "SecretNotLabelled"}:
                    break
    return found, faults


def _fault_of_credentials(field: str, value: bytes) -> str | None:
    """Return why no request can have the value in its credentials (RFC 7617); None if one can."""
    text = secret_text(value)
    if not text.isprintable():
        return "holds line breaks or other control characters; give it as one line of text."
    if field == "username" and ":" in text:
        return "holds a colon, which no user name may; give it without one."
    return None


def _store_secret(named: _Named, key: str, value: bytes) -> bytes | tuple[str, str]:
    """Return the value, or a reason and a sentence if the repo's storage cannot use it."""
    fault = fault_of_store_secret(named.repo.spec.backend.chosen.type_name, secret_text(value))
    if fault is None:
        return value
    return "SecretInvalid", f"{named.field}: the value of {key!r} in Secret {named.key} cannot be used. {fault}"


def _read(named: _Named, secrets: Mapping[ObjectKey, Secret], key: str) -> bytes | tuple[str, str]:
    """Return the value, or a reason and a sentence if it is unusable."""
    field, where, secret = named.field, f"Secret {named.key}", secrets.get(named.key)
    if secret is None:
        sentence = (
            f'{field}: there is no {where} with the label {CREDENTIALS_LABEL}: "true"; create it with that label in '
            "this namespace, the only one that is read."
        )
        return "SecretNotFound", sentence
    if not secret.labelled:
        sentence = (
            f'{field}: {where} lacks the label {CREDENTIALS_LABEL}: "true", with which its owner lets pywharf '
            "use it; add it."
        )
        return "SecretNotLabelled", sentence
    value = secret.value(key)
    if value is None:
        return "SecretKeyMissing", f"{field}: {where} has no key {key!r}; add it, or correct the reference."
    if (fault := _fault(value)) is not None:
        return "SecretInvalid", f"{field}: the value of {key!r} in {where} {fault}"
    return value


def _fault(value: bytes) -> str | None:
    """Return why the server would refuse the value; None if it accepts it."""
    if len(value) > MAX_BYTES:
        return f"has more than {MAX_BYTES} bytes; give it one of at most {MAX_BYTES}."
    try:
        text = secret_text(value)
    except UnicodeDecodeError:
        return "is not UTF-8 text; give it as text."
    return None if text else "is empty; give it one."
