"""Where a repo's packages lie: one struct a backend, each also the source of the server's table for it."""

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from pywharf.config.forms import (
    DEFAULT_GITHUB_API_URL,
    LARGEST_FILE,
    LARGEST_GITHUB_FILE,
    AzureAccount,
    AzureContainer,
    Branch,
    Bucket,
    CaBundle,
    Download,
    Endpoint,
    FileBytes,
    GithubOwner,
    GithubRepo,
    IndexFilename,
    PollSeconds,
    Prefix,
    Region,
    Url,
)
from pywharf_operator.spec.model import Model, Rule, exactly_one, fields_of

_INDEX_FILENAME = "Name of the index file in the storage. Its extension chooses the codec: .json reads fastest."

MaxFileBytes = Annotated[FileBytes, Meta(description="The largest file that is taken, in bytes.")]


class BackendModel(Model, frozen=True, kw_only=True):
    """One backend's settings."""

    type_name: ClassVar[str]
    """The backend's type in the server's configuration."""

    def table(self) -> dict[str, Any]:
        """Its part of the server's table: the settings by attribute, without those that are None or empty."""
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return {"type": self.type_name} | {name: value for name, value in values if value not in {None, ""}}

    def endpoints(self) -> dict[str, str]:
        """The URLs that the repo's owner chose, by field name."""
        return {}


class FileSystem(BackendModel, frozen=True, kw_only=True):
    """A folder of the server's volume."""

    type_name = "file_system"

    max_file_bytes: MaxFileBytes = LARGEST_FILE
    index_filename: Annotated[IndexFilename, Meta(description=_INDEX_FILENAME)] = "index.json"


class Github(BackendModel, frozen=True, kw_only=True):
    """A GitHub repository, a release for each file."""

    type_name = "github"

    owner: Annotated[GithubOwner, Meta(description="User or organisation that has the GitHub repository.")]
    repo: Annotated[GithubRepo, Meta(description="The GitHub repository's name.")]
    branch: Annotated[Branch, Meta(description="Branch that holds the index file.")] = "master"
    index_filename: Annotated[IndexFilename, Meta(description=_INDEX_FILENAME)] = "index.toml"
    max_file_bytes: MaxFileBytes = LARGEST_GITHUB_FILE
    api_url: Annotated[Url, Meta(description="GitHub's API. Of GitHub Enterprise: https://HOST/api/v3.")] = (
        DEFAULT_GITHUB_API_URL
    )
    download: Annotated[
        Download,
        Meta(
            description="How clients get files. redirect: from GitHub, by a signed URL that expires. "
            "stream: through the server, where they cannot reach GitHub."
        ),
    ] = "redirect"

    def endpoints(self) -> dict[str, str]:
        """See BackendModel."""
        return {"apiURL": self.api_url}


BucketName = Annotated[Bucket, Meta(description="The bucket's name.")]
BucketRegion = Annotated[
    Region,
    Meta(description="The bucket's region. Empty: us-east-1, which most stores other than Amazon's accept."),
]
AccountName = Annotated[AzureAccount, Meta(description="The storage account's name.")]
ContainerName = Annotated[AzureContainer, Meta(description="The container's name.")]


def _https_unless_allowed(backend: "StoreAddress") -> bool:
    return backend.allow_http or not backend.endpoint.startswith("http:")


class StoreAddress(BackendModel, frozen=True, kw_only=True):
    """Which part of which object store."""

    rules = (
        Rule(
            cel="self.allowHTTP || !self.endpoint.startsWith('http:')",
            message="endpoint is plain http; use https, or say allowHTTP: true",
            holds=_https_unless_allowed,
        ),
    )

    prefix: Annotated[
        Prefix,
        Meta(description="Folder inside it that is for this alone, ended by '/'. Empty: all of it."),
    ] = ""
    endpoint: Annotated[
        Endpoint,
        Meta(
            description=(
                "The store's URL, whose host the server's `allowedEndpoints` must list. Empty: the cloud's own, which "
                "need not be listed."
            )
        ),
    ] = ""
    allow_http: Annotated[
        bool,
        Meta(description="Whether `endpoint` may be plain HTTP, over which files and signed requests travel readable."),
    ] = False
    ca_bundle: Annotated[
        CaBundle,
        Meta(
            description=(
                "Certificates of private authorities, in PEM form, that the store's certificate may be signed by. "
                "Empty: those of the image and of SSL_CERT_FILE alone."
            )
        ),
    ] = ""

    def endpoints(self) -> dict[str, str]:
        """See BackendModel."""
        return {"endpoint": self.endpoint} if self.endpoint else {}


class ObjectStore(StoreAddress, frozen=True, kw_only=True):
    """What the object stores of repos share."""

    download: Annotated[
        Download,
        Meta(
            description=(
                "How clients get files. redirect: from the store, by a signed URL that expires. stream: through the "
                "server, where they cannot reach the store."
            )
        ),
    ] = "redirect"
    poll_interval_seconds: Annotated[
        PollSeconds,
        Meta(
            description=(
                "Seconds between two polls of each replica for what others have published or changed. A poll is a LIST "
                "and a GET, which clouds charge for."
            )
        ),
    ] = 1
    index_filename: Annotated[IndexFilename, Meta(description=_INDEX_FILENAME)] = "index.json"
    max_file_bytes: MaxFileBytes = LARGEST_FILE

    def table(self) -> dict[str, Any]:
        """See BackendModel. The server's table calls its seconds `poll_interval`."""
        made = super().table()
        made["poll_interval"] = made.pop("poll_interval_seconds")
        return made


class S3(ObjectStore, frozen=True, kw_only=True):
    """A bucket of Amazon S3 or of a storage that speaks its protocol."""

    type_name = "s3"

    bucket: BucketName
    region: BucketRegion = ""


class Gcs(ObjectStore, frozen=True, kw_only=True):
    """A bucket of Google Cloud Storage."""

    type_name = "gcs"

    bucket: BucketName


class Azure(ObjectStore, frozen=True, kw_only=True):
    """A container of Azure Blob Storage."""

    type_name = "azure"

    account: AccountName
    container: ContainerName


BACKEND_FIELDS = ("file_system", "github", "s3", "gcs", "azure")


class Backend(Model, frozen=True, kw_only=True):
    """Exactly one backend."""

    rules = (
        Rule(
            cel=" + ".join(f"(has(self.{name}) ? 1 : 0)" for name in ("fileSystem", "github", "s3", "gcs", "azure"))
            + " == 1",
            message=(
                "backend must hold exactly one of fileSystem, github, s3, gcs and azure, "
                "for example backend: {fileSystem: {}}"
            ),
            holds=lambda backend: exactly_one(*(getattr(backend, name) for name in BACKEND_FIELDS)),
        ),
    )

    file_system: Annotated[
        FileSystem | None,
        Meta(description="A folder of the PackageServer's volume; needs the server's `storage`."),
    ] = None
    github: Annotated[Github | None, Meta(description="A GitHub repository: each file is an asset of a release.")] = (
        None
    )
    s3: Annotated[S3 | None, Meta(description="A bucket of Amazon S3 or of a compatible storage.")] = None
    gcs: Annotated[Gcs | None, Meta(description="A bucket of Google Cloud Storage.")] = None
    azure: Annotated[Azure | None, Meta(description="A container of Azure Blob Storage.")] = None

    @property
    def object_store(self) -> "ObjectStore | None":
        """The one that is given, if it is an object store."""
        chosen = self.chosen
        return chosen if isinstance(chosen, ObjectStore) else None

    @property
    def chosen(self) -> BackendModel:
        """The one that is given."""
        models = (getattr(self, name) for name in BACKEND_FIELDS)
        return next(model for model in models if isinstance(model, BackendModel))

    @property
    def chosen_field(self) -> str:
        """Its name in the manifest."""
        fields = fields_of(type(self))
        return next(field.encode_name for field in fields if getattr(self, field.name) is not None)
