"""Open the bucket of a repo or of the pull-through cache: its credentials, its store, and what follows from them."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from pywharf.backends.file_system.cache_store import DEFAULT_FOLDER as CACHE_FOLDER
from pywharf.backends.object_store.backend import ObjectStoreBackend, Settings
from pywharf.backends.object_store.cache_store import BucketCache
from pywharf.backends.object_store.client import ObjectClient
from pywharf.backends.object_store.egress import StoreEgress
from pywharf.backends.object_store.found_objects import LONG, SHORT, UrlLife
from pywharf.backends.object_store.obstore_client import ObstoreClient
from pywharf.backends.object_store.stores import cloud_variables, make_stores
from pywharf.backends.registration import OpenBackend
from pywharf.config.cache_config import ObjectStoreCache
from pywharf.config.object_stores import AzureSpec, GcsSpec, ObjectStoreSpec, S3Spec
from pywharf.config.repo_config import type_of
from pywharf.config.store_credentials import (
    AzureSasToken,
    S3Keys,
    StoreCredentials,
    parse_azure_credentials,
    parse_gcs_service_account,
    parse_s3_keys,
)
from pywharf.core.errors import BackendUnavailableError, InvalidConfigError


def open_object_store(
    request: OpenBackend[S3Spec] | OpenBackend[GcsSpec] | OpenBackend[AzureSpec],
) -> ObjectStoreBackend:
    """Open a repo's backend. Raises InvalidConfigError if its secret is missing, or cannot be one."""
    spec = request.spec
    credentials = _credentials(request)
    connect = _connecting(spec, credentials, "repo", StoreEgress(request.egress, spec.endpoint).check)
    settings = Settings(
        prefix=spec.prefix,
        index_name=spec.index_name,
        poll_interval_s=float(spec.poll_interval),
        max_file_bytes=spec.max_file_bytes,
        url_life=_url_life(spec, credentials),
        is_job=request.is_job,
    )
    return ObjectStoreBackend(settings, request.root / "cache" / request.name / "staging", connect)


def open_bucket_cache(config: ObjectStoreCache, root: Path, secret: str | None) -> BucketCache:
    """Open the bucket of the pull-through cache; `root` is the server's ROOT. Raises InvalidConfigError."""
    spec = config.spec
    credentials = None if secret is None else _parsed(spec, secret)

    async def check() -> None:
        """Allow the endpoint: who configures the server chose it, not a repo's owner."""

    connect = _connecting(spec, credentials, "cache", check)
    return BucketCache(spec.prefix, root / CACHE_FOLDER, _url_life(spec, credentials), connect)


def _connecting(
    spec: ObjectStoreSpec, credentials: StoreCredentials | None, owner: str, check: Callable[[], Awaitable[None]]
) -> Callable[[], ObjectClient]:
    """Return a function that connects; `owner` is the word for whose bucket it is in messages."""
    cloud_variables()  # before anything could read them

    def connect() -> ObjectClient:
        # Only now: the client's threads would not survive a fork.
        try:
            stores = make_stores(spec, credentials)
        except Exception as error:  # noqa: BLE001 - whatever obstore refuses settings with
            raise BackendUnavailableError(
                f"The {bucket_of(spec)} cannot be opened ({type(error).__name__}); check the {owner}'s table and its "
                "secret."
            ) from None  # its text may hold a secret
        return ObstoreClient(stores, bucket_of(spec), check, owner)

    return connect


def bucket_of(spec: ObjectStoreSpec) -> str:
    """Return the phrase for the repo's bucket in messages."""
    match spec:
        case AzureSpec():
            return f"container {spec.container!r}"
        case S3Spec() | GcsSpec():
            return f"bucket {spec.bucket!r}"
    raise AssertionError(spec)  # pragma: no cover - there are three stores


def _credentials(
    request: OpenBackend[S3Spec] | OpenBackend[GcsSpec] | OpenBackend[AzureSpec],
) -> StoreCredentials | None:
    """Return the credentials; None for the server's identity. Raises InvalidConfigError."""
    spec = request.spec
    if spec.ambient_identity:
        if request.secret is not None:
            raise InvalidConfigError(
                f"The repo {request.name!r} has both a secret and ambient_identity; leave one of them out."
            )
        return None
    if request.secret is None:
        raise InvalidConfigError(
            f"The repo {request.name!r} has no admin secret, which {type_of(spec)} needs; add its table to the file of "
            "--admin_secret, or set ambient_identity = true for the identity that the cloud gives the server."
        )
    return _parsed(spec, request.secret)


def _parsed(spec: ObjectStoreSpec, secret: str) -> StoreCredentials:
    """Return the credentials that a secret holds. Raises InvalidConfigError."""
    match spec:
        case S3Spec():
            return parse_s3_keys(secret)
        case GcsSpec():
            return parse_gcs_service_account(secret)
        case AzureSpec():
            return parse_azure_credentials(secret)
    raise AssertionError(spec)  # pragma: no cover - there are three stores


def _url_life(spec: ObjectStoreSpec, credentials: StoreCredentials | None) -> UrlLife | None:
    """Return how long signed URLs live; None if the server passes files on."""
    # A token cannot sign another one.
    if spec.download == "stream" or isinstance(credentials, AzureSasToken):
        return None
    is_temporary = credentials is None or (isinstance(credentials, S3Keys) and credentials.session_token is not None)
    return SHORT if is_temporary else LONG
