"""Parse the configuration of the pull-through cache once, strictly, into a frozen struct. Pure."""

from typing import Annotated, Any

from msgspec import Meta

from pywharf.config.forms import AzureAccount, AzureContainer, Bucket, CaBundle, Download, Endpoint, Prefix, Region
from pywharf.config.object_stores import AzureSpec, GcsSpec, ObjectStoreSpec, S3Spec
from pywharf.config.repo_config import Secret
from pywharf.core.errors import InvalidConfigError
from pywharf.core.forms import verify_forms
from pywharf.core.redaction import Redacted
from pywharf.core.struct_errors import convert
from pywharf.core.toml_text import loads

DEFAULT_MAX_BYTES = 10 * 1024**3
DEFAULT_KEEP_PAGES_S = 7 * 86400


class CacheConfig(
    Redacted,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="type",
):
    """The fields that every cache may have. A kind of store adds its fields and a tag."""

    max_bytes: Annotated[int, Meta(ge=1, le=2**53)] = DEFAULT_MAX_BYTES
    """Bytes of all kept files and pages. Past it, the files that were used least recently are removed."""
    keep_pages: Annotated[int, Meta(ge=60, le=315_360_000)] = DEFAULT_KEEP_PAGES_S
    """Seconds that a page is served while its index fails, counted from when the index last confirmed it."""

    max_spool_bytes: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    """Bytes on this machine's disk of all files that a worker is fetching; None: as `max_bytes`."""

    def __post_init__(self) -> None:
        """Check the forms of the fields. Raises ValueError."""
        verify_forms(self)


class FileSystemCache(CacheConfig, frozen=True, kw_only=True, tag="file_system"):
    """A folder, possibly shared by several servers."""

    folder: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    """The cache's folder, which it has for itself; None: `upstream-cache` in ROOT."""


class ObjectStoreCache(CacheConfig, frozen=True, kw_only=True):
    """The fields that all object stores share; they mean what they mean in a repo's table."""

    secret: Secret | None = None
    """The store's credentials, in the form of a repo's admin secret."""
    prefix: Prefix = ""
    """Folder of the bucket that the cache has for itself, ended by '/'. Empty: the whole bucket."""
    endpoint: Endpoint = ""
    """URL of the store. Empty: the cloud's own."""
    allow_http: bool = False
    """Whether `endpoint` may be plain HTTP, over which files and signatures travel readable."""
    ca_bundle: CaBundle = ""
    """Certificates of private authorities, in PEM form, that the store's certificate may be signed by."""
    download: Download = "redirect"
    """redirect: clients fetch files from the store, by a signed URL that expires; stream: the server passes them on."""
    ambient_identity: bool = False
    """Whether the cache has no secret and uses the identity that the cloud gives the server."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.secret is None) != self.ambient_identity:
            raise ValueError(
                "name exactly one of secret and ambient_identity = true, the identity that the cloud gives the server"
            )
        _ = self.spec  # which checks what a repo's table may say

    @property
    def spec(self) -> ObjectStoreSpec:
        """Return a repo's table for the same bucket, by which the store is opened. Raises ValueError."""
        raise NotImplementedError

    @property
    def _shared(self) -> dict[str, Any]:
        names = ("prefix", "endpoint", "allow_http", "ca_bundle", "download", "ambient_identity")
        return {name: getattr(self, name) for name in names}


class S3Cache(ObjectStoreCache, frozen=True, kw_only=True, tag="s3"):
    """A bucket of Amazon S3, or of another store with its protocol."""

    bucket: Bucket
    """The bucket's name."""
    region: Region = ""
    """The bucket's region. Empty: us-east-1, which many other stores accept, too."""

    @property
    def spec(self) -> S3Spec:
        """Return a repo's table for the same bucket."""
        return S3Spec(bucket=self.bucket, region=self.region, **self._shared)


class GcsCache(ObjectStoreCache, frozen=True, kw_only=True, tag="gcs"):
    """A bucket of Google Cloud Storage."""

    bucket: Bucket
    """The bucket's name."""

    @property
    def spec(self) -> GcsSpec:
        """Return a repo's table for the same bucket."""
        return GcsSpec(bucket=self.bucket, **self._shared)


class AzureCache(ObjectStoreCache, frozen=True, kw_only=True, tag="azure"):
    """A container of Azure Blob Storage."""

    account: AzureAccount
    """The storage account's name."""
    container: AzureContainer
    """The container's name."""

    @property
    def spec(self) -> AzureSpec:
        """Return a repo's table for the same container."""
        return AzureSpec(account=self.account, container=self.container, **self._shared)


CACHES: dict[str, type[CacheConfig]] = {
    "file_system": FileSystemCache,
    "s3": S3Cache,
    "gcs": GcsCache,
    "azure": AzureCache,
}
"""The struct of each type."""


def parse_cache_config(text: str, source: str = "--cache_config") -> CacheConfig:
    """Parse a cache's TOML text; its `type` chooses the struct. Raises InvalidConfigError, one sentence."""
    table = loads(text, source)
    kind, known = table.get("type"), ", ".join(CACHES)
    if not isinstance(kind, str) or kind not in CACHES:
        given = "is missing" if kind is None else f"is {str(kind)[:80]!r}"
        raise InvalidConfigError(f"{source}: type {given}; name one of {known}.")
    return convert(table, CACHES[kind], source)
