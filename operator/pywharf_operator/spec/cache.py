"""The pull-through cache of a server: where the pages and files of other indexes are kept."""

from typing import Annotated, Any, Final

from msgspec import Meta

from pywharf_operator.spec.backends import AccountName, BucketName, BucketRegion, ContainerName, StoreAddress
from pywharf_operator.spec.forms import Age, ObjectName, SecretKey, age_s
from pywharf_operator.spec.model import Model, Rule, exactly_one
from pywharf_operator.spec.quantities import quantity
from pywharf_operator.spec.volume import Volume, volume_rules

_STORES: Final = ("s3", "gcs", "azure")
_KINDS: Final = ("fileSystem", *_STORES)
_USABLE: Final = 80
"""Percent of a volume that kept files may fill, if its server does not say. The rest is for files being fetched."""


class CacheVolume(Volume, frozen=True, kw_only=True):
    """The volume of the cache."""

    rules = volume_rules("cache.fileSystem")


class CacheS3(StoreAddress, frozen=True, kw_only=True):
    """A bucket of Amazon S3 or of a storage that speaks its protocol."""

    type_name = "s3"

    bucket: BucketName
    region: BucketRegion = ""


class CacheGcs(StoreAddress, frozen=True, kw_only=True):
    """A bucket of Google Cloud Storage."""

    type_name = "gcs"

    bucket: BucketName


class CacheAzure(StoreAddress, frozen=True, kw_only=True):
    """A container of Azure Blob Storage."""

    type_name = "azure"

    account: AccountName
    container: ContainerName


class CacheSecretRef(Model, frozen=True, kw_only=True):
    """One value of a Secret in the server's own namespace."""

    name: Annotated[ObjectName, Meta(description="The Secret's name, in the server's own namespace.")]
    key: Annotated[SecretKey, Meta(description="The key in the Secret's data.")]


def _volume_has_no_keys(cache: "Cache") -> bool:
    return cache.file_system is None or cache.credentials_secret_ref is None


def _identity_has_no_endpoint(cache: "Cache") -> bool:
    store = cache.object_store
    return store is None or not store.endpoint or cache.credentials_secret_ref is not None


class Cache(Model, frozen=True, kw_only=True):
    """Where pages and files of other indexes are kept, for all repos of the server whose upstream mode is Cached."""

    rules = (
        Rule(
            cel=" + ".join(f"(has(self.{kind}) ? 1 : 0)" for kind in _KINDS) + " == 1",
            message=(
                "cache must hold exactly one of fileSystem, s3, gcs and azure, for example "
                "cache: {fileSystem: {size: 20Gi}}"
            ),
            holds=lambda cache: exactly_one(cache.file_system, cache.s3, cache.gcs, cache.azure),
        ),
        Rule(
            cel="!(has(self.fileSystem) && has(self.credentialsSecretRef))",
            message="cache.credentialsSecretRef: a volume has no credentials; leave it out",
            holds=_volume_has_no_keys,
        ),
        Rule(
            cel=(
                "has(self.credentialsSecretRef) || !(["
                + ", ".join(f"has(self.{kind}) ? self.{kind}.endpoint : ''" for kind in _STORES)
                + "].exists(endpoint, endpoint != ''))"
            ),
            message=(
                "cache: endpoint needs a credentialsSecretRef; without one the cache uses the cloud identity of the "
                "server's pods, whose token is for its own cloud alone"
            ),
            holds=_identity_has_no_endpoint,
        ),
    )

    file_system: Annotated[
        CacheVolume | None,
        Meta(description="A volume of its own. Like the packages' volume it outlives the server."),
    ] = None
    s3: Annotated[CacheS3 | None, Meta(description="A bucket of Amazon S3 or of a compatible storage.")] = None
    gcs: Annotated[CacheGcs | None, Meta(description="A bucket of Google Cloud Storage.")] = None
    azure: Annotated[CacheAzure | None, Meta(description="A container of Azure Blob Storage.")] = None
    credentials_secret_ref: Annotated[
        CacheSecretRef | None,
        Meta(
            description=(
                "The bucket's keys, in the form of a repo's backendSecretRef; the server reads them when it starts. "
                "Absent: the cloud identity of the server's pods."
            )
        ),
    ] = None
    max_bytes: Annotated[
        Annotated[int, Meta(ge=1, le=2**53)] | None,
        Meta(
            description=(
                "Bytes of all kept files; past it, those that were used least recently are removed. Absent: "
                f"{_USABLE} percent of fileSystem.size, otherwise 10 GiB."
            )
        ),
    ] = None
    keep_pages: Annotated[
        Age | None,
        Meta(
            description=(
                "For how long a page is served while its index fails, from when the index last confirmed it: days, "
                "hours or minutes. Absent: 7d."
            )
        ),
    ] = None

    @property
    def object_store(self) -> StoreAddress | None:
        """The bucket that is given, if one is."""
        return self.s3 or self.gcs or self.azure

    @property
    def uses_ambient_identity(self) -> bool:
        """Whether the cache is read and written with the cloud identity of the server's pods."""
        return self.object_store is not None and self.credentials_secret_ref is None

    @property
    def most_bytes(self) -> int | None:
        """How many bytes of files are kept; None: the server's own default."""
        if self.max_bytes is not None or self.volume_bytes is None:
            return self.max_bytes
        return max(1, min(2**53, self.volume_bytes * _USABLE // 100))

    @property
    def volume_bytes(self) -> int | None:
        """The size of the volume that is claimed; None if it is unknown."""
        size = None if self.file_system is None else quantity(self.file_system.size)
        return None if size is None else int(size)

    def limits_table(self) -> dict[str, Any]:
        """Return what the server's own configuration says whatever the store is."""
        given = {
            "max_bytes": self.most_bytes,
            "keep_pages": None if self.keep_pages is None else age_s(self.keep_pages),
        }
        return {field: value for field, value in given.items() if value is not None}
