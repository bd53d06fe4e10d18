"""Make obstore's stores from a repo's table and its credentials.

obstore would read AWS_*, GOOGLE_* and AZURE_* variables for whatever its caller leaves out: a tenant's repo would be
served with the server's own identity. So these variables are taken out of the process before the first store is made,
and only a store with the server's identity gets them back, as settings of its own.
"""

import functools
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, assert_never
from urllib.parse import urlsplit

import msgspec
from obstore.store import AzureStore, GCSStore, S3Store

from pywharf.config.object_stores import AzureSpec, GcsSpec, ObjectStoreSpec, S3Spec
from pywharf.config.store_credentials import (
    AzureAccountKey,
    AzureClient,
    AzureSasToken,
    GcsServiceAccount,
    S3Keys,
    StoreCredentials,
)
from pywharf.egress.policy import proxy_for

Store = S3Store | GCSStore | AzureStore

_PREFIXES = ("AWS_", "GOOGLE_", "AZURE_")
_RETRIES = 2
_CALL_S = 10
_CONNECT_S = 5
_NOWHERE = "http://127.0.0.1:1"
_AZURE_TOKENS = "login.microsoftonline.com"
_READ_S = 20
"""Seconds that a stream may pause."""


class Stores(msgspec.Struct, frozen=True):
    """The stores of one bucket: one for calls, one for what takes longer, such as a large file."""

    calls: Store
    streams: Store


@functools.cache
def cloud_variables() -> Mapping[str, str]:
    """Take the clouds' variables out of this process's environment, once, and return them."""
    names = [name for name in os.environ if name.upper().startswith(_PREFIXES)]
    return {name: os.environ.pop(name) for name in names}


def make_stores(spec: ObjectStoreSpec, credentials: StoreCredentials | None) -> Stores:
    """Make the stores of a repo. Without credentials they have the server's own identity. Call it after a fork.

    Raises ValueError, whose text may hold a secret.
    """
    variables = cloud_variables()
    settings = _settings(spec, credentials)
    if credentials is None:
        settings = _ambient(spec, variables) | settings
    way = _way(spec, credentials)
    return Stores(
        calls=_store(spec, settings, way | {"timeout": f"{_CALL_S}s"}, retry_s=_CALL_S),
        streams=_store(spec, settings, way | {"timeout": "1h", "read_timeout": f"{_READ_S}s"}, retry_s=3 * _READ_S),
    )


def _way(spec: ObjectStoreSpec, credentials: StoreCredentials | None) -> dict[str, str]:
    """Return how the store is reached.

    The library follows redirects, and no setting forbids it. So whatever leads to another host than the repo's endpoint
    is sent to a proxy that does not exist.
    """
    if not spec.endpoint or credentials is None:
        return {}
    proxy = proxy_for(spec.endpoint)
    if proxy is not None:
        return {"proxy_url": proxy}  # it decides itself where it leads
    hosts = [urlsplit(spec.endpoint).hostname or ""]
    if isinstance(credentials, AzureClient):
        hosts.append(_AZURE_TOKENS)
    return {"proxy_url": _NOWHERE, "proxy_excludes": ",".join(hosts)}


def _store(spec: ObjectStoreSpec, settings: Mapping[str, Any], timeouts: Mapping[str, str], *, retry_s: int) -> Store:
    client: dict[str, Any] = {
        "allow_http": spec.allow_http,
        "connect_timeout": f"{_CONNECT_S}s",
        "user_agent": "pywharf",
        **timeouts,
    }
    if spec.ca_bundle:
        client["root_certificate"] = spec.ca_bundle
    options: dict[str, Any] = {
        "config": dict(settings),
        "client_options": client,
        "retry_config": {
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(seconds=retry_s),
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
        },
    }
    match spec:
        case S3Spec():
            return S3Store(spec.bucket, **options)
        case GcsSpec():
            return GCSStore(spec.bucket, **options)
        case AzureSpec():
            return AzureStore(spec.container, **options)
    raise AssertionError(spec)  # pragma: no cover - there are three stores


def _settings(spec: ObjectStoreSpec, credentials: StoreCredentials | None) -> dict[str, Any]:
    identity = {} if credentials is None else _identity(credentials)
    match spec:
        case S3Spec():
            settings = {"region": spec.region_name, "copy_if_not_exists": "multipart", "conditional_put": "etag"}
            return settings | ({"endpoint": spec.endpoint} if spec.endpoint else {}) | identity
        case GcsSpec():
            return ({"base_url": spec.endpoint} if spec.endpoint else {}) | identity
        case AzureSpec():
            return {"account_name": spec.account} | ({"endpoint": spec.endpoint} if spec.endpoint else {}) | identity
    raise AssertionError(spec)  # pragma: no cover - there are three stores


def _identity(credentials: StoreCredentials) -> dict[str, str]:
    match credentials:
        case S3Keys(access_key_id, secret_access_key, session_token):
            keys = {"access_key_id": access_key_id, "secret_access_key": secret_access_key}
            return keys | ({"session_token": session_token} if session_token else {})
        case AzureAccountKey(key):
            return {"account_key": key, "credential_type": "access_key"}
        case AzureSasToken(token):
            return {"sas_key": token.removeprefix("?"), "credential_type": "sas_token"}
        case AzureClient(client_id, client_secret, tenant_id):
            client = {"client_id": client_id, "client_secret": client_secret, "tenant_id": tenant_id}
            return client | {"credential_type": "client_secret"}
        case GcsServiceAccount(text):
            return {"service_account_key": text}
        case _:
            assert_never(credentials)


def _ambient(spec: ObjectStoreSpec, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that the server's identity consists of; not those that would lead to another store."""
    kept = {"s3": _AWS_IDENTITY, "gcs": _GOOGLE_IDENTITY, "azure": _AZURE_IDENTITY}[
        str(type(spec).__struct_config__.tag)
    ]
    return {name.lower(): value for name, value in variables.items() if name.upper() in kept}


_AWS_IDENTITY = {
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_METADATA_ENDPOINT",
}
_GOOGLE_IDENTITY = {"GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY"}
_AZURE_IDENTITY = {
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_TENANT_ID",
    "AZURE_AUTHORITY_HOST",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_MSI_ENDPOINT",
}
