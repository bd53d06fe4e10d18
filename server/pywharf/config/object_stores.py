"""The tables of repos whose packages lie in a bucket: S3, Google Cloud Storage and Azure Blob Storage. Pure."""

from collections.abc import Mapping

from pywharf.config.forms import (
    AzureAccount,
    AzureContainer,
    Bucket,
    CaBundle,
    Download,
    Endpoint,
    PollSeconds,
    Prefix,
    Region,
)
from pywharf.config.repo_config import BackendSpec

DEFAULT_REGION = "us-east-1"


class ObjectStoreSpec(BackendSpec, frozen=True, kw_only=True):
    """The fields that all object stores share."""

    prefix: Prefix = ""
    """Folder of the bucket that this repo has for itself, ended by '/'. Empty: the whole bucket."""
    endpoint: Endpoint = ""
    """URL of the store. Empty: the cloud's own."""
    allow_http: bool = False
    """Whether `endpoint` may be plain HTTP, over which files and signatures travel readable."""
    ca_bundle: CaBundle = ""
    """Certificates of private authorities, in PEM form, that the store's certificate may be signed by."""
    download: Download = "redirect"
    """redirect: clients fetch files from the store, by a signed URL that expires; stream: the server passes them on."""
    ambient_identity: bool = False
    """Whether the repo has no secret and uses the identity that the cloud gives the server."""
    poll_interval: PollSeconds = 1
    """Seconds between two polls for other servers' uploads and changes. Each poll is a LIST and a GET."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.endpoint.startswith("http:") and not self.allow_http:
            raise ValueError("endpoint is plain http; use https, or set allow_http = true")
        if self.ambient_identity and self.endpoint:
            # The owner of another store would receive the identity's token.
            raise ValueError("endpoint and ambient_identity do not go together: the server's identity is for its cloud")

    @property
    def urls(self) -> Mapping[str, str]:
        """The URLs that the backend connects to, by field; those of the cloud's own hosts have no field."""
        return {"endpoint": self.endpoint} if self.endpoint else {}


class S3Spec(ObjectStoreSpec, frozen=True, kw_only=True, tag="s3"):
    """A bucket of Amazon S3, or of another store with its protocol."""

    bucket: Bucket
    """The bucket's name."""
    region: Region = ""
    """The bucket's region. Empty: us-east-1, which many other stores accept, too."""

    @property
    def region_name(self) -> str:
        """The region that requests are signed for."""
        return self.region or DEFAULT_REGION


class GcsSpec(ObjectStoreSpec, frozen=True, kw_only=True, tag="gcs"):
    """A bucket of Google Cloud Storage."""

    bucket: Bucket
    """The bucket's name."""


class AzureSpec(ObjectStoreSpec, frozen=True, kw_only=True, tag="azure"):
    """A container of Azure Blob Storage."""

    account: AzureAccount
    """The storage account's name."""
    container: AzureContainer
    """The container's name."""
