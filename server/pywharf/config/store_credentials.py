"""Parse the secrets of object stores, once, into frozen structs that never show them. Pure."""

import json
import tomllib
from typing import Any, TypeVar

import msgspec

from pywharf.core.errors import InvalidConfigError
from pywharf.core.msgspec_warmup import warmed_up

_LONGEST = 65536
"""Characters of a secret's text."""
_LONGEST_FIELD = 16384
_AZURE = "account_key, or sas_token, or client_id, client_secret and tenant_id"
T = TypeVar("T", bound=msgspec.Struct)


class _Hidden(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    def __repr__(self) -> str:
        """Return the struct's name alone: each field is secret, or says who has the secret."""
        return f"{type(self).__name__}(...)"


class S3Keys(_Hidden, frozen=True):
    """An access key of S3."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None
    """The token of temporary keys. They expire; rotate the secret before."""


class AzureAccountKey(_Hidden, frozen=True):
    """The key of a storage account, which may do everything."""

    account_key: str


class AzureSasToken(_Hidden, frozen=True):
    """A shared access signature: the query of a URL, with or without its question mark."""

    sas_token: str


class AzureClient(_Hidden, frozen=True):
    """An application that is registered with Entra ID."""

    client_id: str
    client_secret: str
    tenant_id: str


class GcsServiceAccount(_Hidden, frozen=True):
    """A service account's key, as Google gives it."""

    text: str
    """The JSON text, checked."""


AzureCredentials = AzureAccountKey | AzureSasToken | AzureClient
StoreCredentials = S3Keys | AzureCredentials | GcsServiceAccount


def parse_s3_keys(secret: str) -> S3Keys:
    """Parse the secret of an s3 repo. Raises InvalidConfigError, which names what is missing and shows nothing."""
    needed = "access_key_id and secret_access_key, and session_token for temporary keys"
    return _converted(_table(secret, "s3", needed), S3Keys, "s3", needed)


def parse_azure_credentials(secret: str) -> AzureCredentials:
    """Parse the secret of an azure repo. Raises InvalidConfigError, which names what is missing and shows nothing."""
    table = _table(secret, "azure", _AZURE)
    ways: tuple[tuple[str, type[AzureAccountKey | AzureSasToken | AzureClient]], ...] = (
        ("account_key", AzureAccountKey),
        ("sas_token", AzureSasToken),
        ("client_secret", AzureClient),
    )
    given = [(field, kind) for field, kind in ways if field in table]
    if len(given) > 1:
        raise InvalidConfigError(
            f"The secret of an azure backend has {' and '.join(field for field, _ in given)}; give one: {_AZURE}."
        )
    kind = given[0][1] if given else AzureClient
    if not given and not {"client_id", "tenant_id"} & set(table):
        raise InvalidConfigError(f"The secret of an azure backend has no credentials; it needs {_AZURE}, as TOML.")
    return _converted(table, kind, "azure", _AZURE)


def parse_gcs_service_account(secret: str) -> GcsServiceAccount:
    """Parse the secret of a gcs repo. Raises InvalidConfigError, which names what is missing and shows nothing."""
    needed = "the JSON key of a service account, as Google gives it"
    text = _bounded(secret, "gcs", needed)
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise InvalidConfigError(f"The secret of a gcs backend is no JSON object; it needs {needed}.")
    if table.get("type") != "service_account":
        raise InvalidConfigError(f"The secret of a gcs backend has not the type service_account; it needs {needed}.")
    for field in ("client_email", "private_key", "private_key_id"):
        if not isinstance(table.get(field), str) or not table[field]:
            raise InvalidConfigError(f"The secret of a gcs backend lacks {field}; it needs {needed}.")
    if "-----BEGIN" not in table["private_key"]:
        raise InvalidConfigError("private_key of a service account must be the PEM text that Google gave.")
    # The other fields of such a file name hosts (of tokens, of the store), which a repo may not choose there.
    kept = {field: table[field] for field in ("type", "client_email", "private_key", "private_key_id")}
    return GcsServiceAccount(json.dumps(kept))


def _bounded(secret: str, kind: str, needed: str) -> str:
    text = secret.strip()
    if not text:
        raise InvalidConfigError(f"The secret of {_a(kind)} backend is empty; it needs {needed}.")
    if len(text) > _LONGEST:
        raise InvalidConfigError(f"The secret of {_a(kind)} backend is over {_LONGEST} characters.")
    return text


def _table(secret: str, kind: str, needed: str) -> dict[str, Any]:
    try:
        return tomllib.loads(_bounded(secret, kind, needed))
    except (tomllib.TOMLDecodeError, RecursionError):
        raise InvalidConfigError(
            f'The secret of {_a(kind)} backend is not TOML; it needs {needed}, a line each: field = "value".'
        ) from None  # the cause may show a key


def _converted(table: dict[str, Any], kind: type[T], backend: str, needed: str) -> T:
    fields = warmed_up(kind).__struct_fields__
    required = [field for field in fields if field != "session_token"]
    missing = [field for field in required if field not in table]
    if missing:
        raise InvalidConfigError(
            f"The secret of {_a(backend)} backend lacks {' and '.join(missing)}; it needs {needed}."
        )
    unknown = sorted(set(table) - set(fields))
    if unknown:
        # A field's name may be a secret that was pasted to the wrong side of '='.
        raise InvalidConfigError(
            f"The secret of {_a(backend)} backend has {len(unknown)} unknown field(s); it needs {needed}, nothing else."
        )
    for field, value in table.items():
        if not isinstance(value, str) or not _is_plain(value):
            raise InvalidConfigError(
                f"The secret of {_a(backend)} backend: {field} must be a text of printable characters without spaces."
            )
    return msgspec.convert(table, kind)


def _is_plain(value: str) -> bool:
    return 0 < len(value) <= _LONGEST_FIELD and value.isascii() and value.isprintable() and " " not in value


def _a(kind: str) -> str:
    return f"an {kind}" if kind in {"s3", "azure"} else f"a {kind}"
