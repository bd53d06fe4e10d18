"""PackageRepo: one private package index."""

from datetime import datetime
from typing import Annotated, Final, Literal

from msgspec import Meta

from pywharf.config.forms import Url
from pywharf.config.repo_config import MAX_SOURCES
from pywharf.core.access.entries import MAX_ENTRIES, MAX_PATTERNS, check_entries
from pywharf.core.names import RepoName
from pywharf_operator.spec.access import Access, delivered
from pywharf_operator.spec.backends import Backend
from pywharf_operator.spec.client_config import ClientConfig
from pywharf_operator.spec.conditions import Condition, Count, NameText, StatusModel, Text
from pywharf_operator.spec.forms import (
    REPO_NAME,
    NamePattern,
    Namespace,
    ObjectName,
    RepoNameText,
    ScheduleText,
    SecretKey,
    TimeZone,
)
from pywharf_operator.spec.metadata import ObjectKey, Resource
from pywharf_operator.spec.model import Model, Rule

PACKAGE_REPO = "PackageRepo"
TRIGGER_ANNOTATION = "pywharf.dev/update-index"
"""Any new value of it runs an update of the index immediately."""

MAX_PATTERNS_OF_SOURCE: Final = 256
DEFAULT_SERVER_NAME: Final = "pywharf"
"""The PackageServer of a PackageRepo that names none."""


class ServerRef(Model, frozen=True, kw_only=True):
    """Which PackageServer serves the repo."""

    name: Annotated[ObjectName, Meta(description="The PackageServer's name.")] = DEFAULT_SERVER_NAME
    namespace: Annotated[
        Namespace | None, Meta(description="The PackageServer's namespace. Absent: the repo's own.")
    ] = None


class SecretKeyRef(Model, frozen=True, kw_only=True):
    """One value of a Secret in the repo's own namespace."""

    name: Annotated[
        ObjectName,
        Meta(
            description=(
                "The Secret's name, in the repo's own namespace. It must carry the label "
                'pywharf.dev/credentials: "true".'
            )
        ),
    ]
    key: Annotated[SecretKey, Meta(description="The key in the Secret's data.")]


class Credentials(Model, frozen=True, kw_only=True):
    """Who may use the repo, and what the server itself uses its storage with."""

    rules = (
        Rule(
            cel="!(self.readOnly && has(self.writeSecretRef))",
            message="credentials: readOnly is true, so nobody publishes; leave writeSecretRef out, or readOnly",
            holds=lambda credentials: not (credentials.read_only and credentials.write_secret_ref),
        ),
    )

    read_secret_ref: Annotated[SecretKeyRef | None, Meta(description="What clients send as the password to read.")] = (
        None
    )
    write_secret_ref: Annotated[
        SecretKeyRef | None, Meta(description="What clients send as the password to read and publish.")
    ] = None
    backend_secret_ref: Annotated[
        SecretKeyRef | None,
        Meta(
            description=(
                "What the server itself reads and writes the storage with: a GitHub token or App, or a bucket's keys. "
                "fileSystem needs none, nor do s3, gcs and azure if the server lends the namespace its identity."
            )
        ),
    ] = None
    anonymous_read: Annotated[
        bool,
        Meta(
            description=(
                "Whether clients without credentials may read. With it, or with entries of `access`, readSecretRef is "
                "optional."
            )
        ),
    ] = False
    read_only: Annotated[
        bool, Meta(description="Whether nobody may publish through the server; then writeSecretRef is left out.")
    ] = False


class Index(Model, frozen=True, kw_only=True):
    """When the index is built again from the storage, and how often replicas poll it."""

    schedule: Annotated[
        ScheduleText | None,
        Meta(
            description=(
                "When the whole storage is scanned and the index written, as five cron fields. Absent: hourly, at a "
                "minute that follows from the repo's name."
            )
        ),
    ] = None
    time_zone: Annotated[TimeZone, Meta(description="The schedule's time zone, an IANA name.")] = "Etc/UTC"
    suspend: Annotated[
        bool, Meta(description="Whether scheduled updates are left out. Uploads are visible all the same.")
    ] = False
    sync_interval_seconds: Annotated[
        int,
        Meta(
            ge=1,
            le=86400,
            description="Seconds between looks at the index, for backends that cannot look often at no cost.",
        ),
    ] = 60


class SourceSecretRef(Model, frozen=True, kw_only=True):
    """A Secret in the repo's own namespace."""

    name: Annotated[
        ObjectName,
        Meta(
            description=(
                "The Secret's name, in the repo's own namespace, with the keys `username` and `password`. It must "
                'carry the label pywharf.dev/credentials: "true".'
            )
        ),
    ]


class UpstreamSource(Model, frozen=True, kw_only=True):
    """One of several indexes that are asked in order."""

    url: Annotated[Url, Meta(description="Its Simple index, whose host the server's `allowedEndpoints` must list.")]
    projects: Annotated[
        tuple[NamePattern, ...],
        Meta(
            max_length=MAX_PATTERNS_OF_SOURCE,
            description="Names, * for any characters, that it is asked for. Empty: all names.",
        ),
    ] = ()
    credentials_secret_ref: Annotated[
        SourceSecretRef | None,
        Meta(
            description=(
                "User name and password that are sent to the index's own host alone. Over http they travel readable."
            )
        ),
    ] = None


class Upstream(Model, frozen=True, kw_only=True):
    """What is answered for a project that the repo does not hold."""

    rules = (
        Rule(
            cel="!(has(self.url) && has(self.sources) && self.sources.size() > 0)",
            message="upstream: url and sources exclude each other; make the url the last of the sources",
            holds=lambda upstream: upstream.url is None or not upstream.sources,
        ),
    )

    url: Annotated[
        Url | None,
        Meta(description="Simple index asked for projects that the repo does not hold. Absent: the server's."),
    ] = None
    mode: Annotated[
        Literal["None", "Pages", "Cached"] | None,
        Meta(
            description=(
                "Pages: answer with that index's page. Cached: also keep its pages and files in the server's `cache`, "
                "so that installs go on while it is away. None: never ask it. Absent: the server's."
            )
        ),
    ] = None
    sources: Annotated[
        tuple[UpstreamSource, ...],
        Meta(
            max_length=MAX_SOURCES,
            description=(
                "Instead of `url`: several indexes in order. The first one that matches a name and has the project "
                "answers alone; one that fails is never replaced by the next."
            ),
        ),
    ] = ()
    reserved: Annotated[
        tuple[NamePattern, ...],
        Meta(
            max_length=256,
            description="Names, * for any characters, that are never looked up there. The server's are added.",
        ),
    ] = ()
    allow_shadowing: Annotated[
        tuple[NamePattern, ...],
        Meta(
            max_length=256,
            description=(
                "Names, * for any characters, that are looked up there although `reserved` matches them or the repo "
                "holds them. It opens the door to dependency confusion for these names."
            ),
        ),
    ] = ()


class PackageRepoSpec(Model, frozen=True, kw_only=True):
    """What the team wants."""

    rules = (
        Rule(
            cel=(
                "has(self.repoName) == has(oldSelf.repoName) && "
                "(!has(self.repoName) || self.repoName == oldSelf.repoName)"
            ),
            message="repoName never changes; make a new PackageRepo for another name",
        ),
        Rule(
            cel="!(has(self.backend.fileSystem) && has(self.credentials.backendSecretRef))",
            message="credentials.backendSecretRef: a fileSystem backend has no credentials; leave it out",
            holds=lambda spec: (
                not (spec.backend.file_system is not None and spec.credentials.backend_secret_ref is not None)
            ),
        ),
        Rule(
            cel="!(has(self.backend.github) && self.credentials.readOnly)",
            message="credentials.readOnly: with github, GitHub says what a client's own token may do; leave it out",
            holds=lambda spec: not (spec.backend.github is not None and spec.credentials.read_only),
        ),
        Rule(
            cel=(
                "!self.credentials.readOnly || !has(self.access) || "
                "self.access.all(entry, entry.permission != 'Publish')"
            ),
            message=(
                "access: credentials.readOnly is true, so nobody publishes; give each entry the permission Read, or "
                "leave readOnly out"
            ),
            holds=lambda spec: (
                not spec.credentials.read_only or all(entry.permission != "Publish" for entry in spec.access)
            ),
        ),
        Rule(
            cel=(
                "!has(self.access) || self.access.map(entry, has(entry.projects) ? entry.projects.size() : 1).sum() "
                f"<= {MAX_PATTERNS}"
            ),
            message=f"access: all entries together may have {MAX_PATTERNS} projects; use patterns such as acme-*",
            holds=lambda spec: sum(len(entry.projects) for entry in spec.access) <= MAX_PATTERNS,
        ),
    )

    server_ref: Annotated[ServerRef, Meta(description="The PackageServer that serves this repo.")] = ServerRef()
    repo_name: Annotated[
        RepoNameText | None,
        Meta(
            description=(
                "What clients use in URLs and as the user name. Absent: metadata.name. It never changes, nor is it "
                "added or cleared later."
            )
        ),
    ] = None
    backend: Annotated[
        Backend,
        Meta(description="Where the packages lie: exactly one backend. Changing it moves no package."),
    ]
    credentials: Annotated[
        Credentials, Meta(description="Who may use the repo, and the storage's own credentials.")
    ] = Credentials()
    access: Annotated[
        tuple[Access, ...],
        Meta(
            max_length=MAX_ENTRIES,
            description="Who may use the repo besides the holders of its secrets. No entry holds a secret.",
            extra={"list_map_keys": ("name",)},
        ),
    ] = ()
    index: Annotated[Index, Meta(description="When and how the index is kept up to date.")] = Index()
    upstream: Annotated[Upstream, Meta(description="What is answered for projects that the repo does not hold.")] = (
        Upstream()
    )
    client_config: Annotated[
        ClientConfig | None,
        Meta(
            description="What pods of the repo's namespace use the repo with, by their own identity. Absent: nothing."
        ),
    ] = None

    def __post_init__(self) -> None:
        """Raise ValueError as every model, and for access entries that a server would refuse together."""
        Model.__post_init__(self)
        names = [one.name for one in self.access]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"access: two entries have the name {twice[0]}; give each its own")
        check_entries(tuple(map(delivered, self.access)))


class IndexStatus(StatusModel, frozen=True, kw_only=True):
    """What the last update of the index found."""

    projects: Annotated[Count | None, Meta(description="Projects in the index.")] = None
    files: Annotated[Count | None, Meta(description="Files in the index.")] = None
    bytes: Annotated[Count | None, Meta(description="Bytes of all these files together.")] = None
    last_update_time: Annotated[datetime | None, Meta(description="When an update last succeeded.")] = None
    last_job: Annotated[NameText | None, Meta(description="Name of the last update's Job.")] = None
    last_result: Annotated[Text | None, Meta(description="What the last update reported, or why it failed.")] = None
    last_trigger: Annotated[
        Text | None,
        Meta(
            description="Value of the annotation pywharf.dev/update-index that was last acted upon.",
        ),
    ] = None


class PackageRepoStatus(StatusModel, frozen=True, kw_only=True):
    """What the operator observed."""

    observed_generation: Annotated[
        Count | None, Meta(description="The metadata.generation that this status speaks of.")
    ] = None
    url: Annotated[Text | None, Meta(description="The index URL for pip, uv and other clients.")] = None
    repo_name: Annotated[
        NameText | None, Meta(description="The name that clients use in URLs and as the user name.")
    ] = None
    conditions: Annotated[
        tuple[Condition, ...],
        Meta(
            max_length=16,
            description=(
                "Accepted, SecretsResolved, Programmed, IndexUpToDate and Ready; AccessResolved, CredentialsStrong, "
                "ClientConfigured and UpstreamReachable where they say something."
            ),
            extra={"list_map_keys": ("type",)},
        ),
    ] = ()
    index: Annotated[IndexStatus | None, Meta(description="What the last update of the index found.")] = None


def _named(repo: "PackageRepo") -> bool:
    return repo.spec.repo_name is not None or len(repo.metadata.name) <= REPO_NAME.max_length


class PackageRepo(Resource, frozen=True, kw_only=True):
    """A private package index that clients reach under its repo name."""

    rules = (
        Rule(
            cel="has(self.spec.repoName) || self.metadata.name.size() <= 63",
            message="metadata.name is longer than 63 characters, so it cannot be the repo's name; set spec.repoName",
            holds=_named,
        ),
    )

    spec: Annotated[PackageRepoSpec, Meta(description="What the team wants.")]
    status: Annotated[
        PackageRepoStatus | None, Meta(description="What the operator observed. Only it writes here.")
    ] = None

    @property
    def repo_name(self) -> RepoName:
        """What clients use in URLs and as the user name."""
        return RepoName(self.spec.repo_name or self.metadata.name)

    @property
    def server_key(self) -> ObjectKey:
        """The PackageServer that the repo names."""
        ref = self.spec.server_ref
        return ObjectKey(ref.namespace or self.key.namespace, ref.name)
