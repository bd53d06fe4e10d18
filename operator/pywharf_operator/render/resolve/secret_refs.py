"""The Secrets that a repo names: looked up and checked."""

from collections.abc import Mapping

import msgspec

from pywharf.core.secret_text import secret_text
from pywharf_operator.render.resolve.findings import Finding
from pywharf_operator.render.resolve.store_secrets import fault_of_store_secret
from pywharf_operator.spec import CREDENTIALS_LABEL, ObjectKey, PackageRepo, PackageServer, Secret, SecretKeyRef

MAX_BYTES = 16 * 1024
"""Most bytes of a secret. Tokens, passwords and account keys are far shorter; one repo must not fill the space that all
share."""


class RepoSecrets(msgspec.Struct, frozen=True, kw_only=True):
    """A repo's secrets in plain text."""

    read: bytes | None = None
    write: bytes | None = None
    backend: bytes | None = None

    def __repr__(self) -> str:
        """Hide the secrets."""
        return "RepoSecrets(...)"

    def given(self) -> dict[str, bytes]:
        """Return the secrets that are set, by use."""
        return {use: value for use in self.__struct_fields__ if (value := getattr(self, use)) is not None}


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
        value = _read(repo, use, ref, secrets.get(ObjectKey(repo.key.namespace, ref.name)))
        if isinstance(value, bytes):
            found[use] = value
        else:
            faults.append(value)
    if faults:
        message = " ".join(sentence for _, sentence in faults)
        return Finding(status=False, reason=faults[0][0], message=message), RepoSecrets()
    return Finding(status=True, reason="Resolved", message="Every secret was found."), RepoSecrets(**found)


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


def _read(repo: PackageRepo, use: str, ref: SecretKeyRef, secret: Secret | None) -> bytes | tuple[str, str]:
    """Return the value, or a reason and a sentence if it is unusable."""
    field = f"spec.credentials.{use}SecretRef"
    where = f"Secret {repo.key.namespace}/{ref.name}"
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
    value = secret.value(ref.key)
    if value is None:
        return "SecretKeyMissing", f"{field}: {where} has no key {ref.key!r}; add it, or correct the reference."
    if (fault := _fault(value)) is not None:
        return "SecretInvalid", f"{field}: the value of {ref.key!r} in {where} {fault}"
    if use == "backend":
        fault = fault_of_store_secret(repo.spec.backend.chosen.type_name, secret_text(value))
        if fault is not None:
            return "SecretInvalid", f"{field}: the value of {ref.key!r} in {where} cannot be used. {fault}"
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
