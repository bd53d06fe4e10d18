"""Parse the repos' configuration and the admin secrets once, strictly, into frozen structs. Pure."""

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from pywharf.config.forms import (
    DEFAULT_GITHUB_API_URL,
    LARGEST_FILE,
    LARGEST_GITHUB_FILE,
    Branch,
    Download,
    FileBytes,
    GithubOwner,
    GithubRepo,
    IndexFilename,
)
from pywharf.core.access.entries import MAX_ENTRIES, AccessEntry, check_entries
from pywharf.core.errors import InvalidConfigError, InvalidNameError
from pywharf.core.forms import verify_forms
from pywharf.core.names import RepoName, parse_repo_name
from pywharf.core.policy.name_patterns import is_name_pattern
from pywharf.core.redaction import Redacted
from pywharf.core.struct_errors import convert
from pywharf.core.toml_text import loads
from pywharf.core.urls import check_url


class SecretRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A reference to a secret: `{env = "NAME"}` or `{file = "/path"}`."""

    env: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        if (self.env is None) == (self.file is None):
            raise ValueError('name exactly one of env and file, for example {file = "/run/secrets/read"}')


Secret = str | SecretRef
"""A secret in the text itself, or a reference to it."""


_Patterns = tuple[Annotated[str, Meta(max_length=256)], ...]
_Url = Annotated[str, Meta(max_length=2048)]
MAX_SOURCES = 16
_MAX_PATTERNS_OF_SOURCE = 1_000


class UpstreamSource(Redacted, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One of several other indexes that are asked in order."""

    url: _Url
    """Its Simple index."""
    projects: Annotated[_Patterns, Meta(max_length=_MAX_PATTERNS_OF_SOURCE)] = ()
    """Name patterns (`torch*`) that it is asked for; empty: all names."""
    username: Secret | None = None
    """What is sent to the index's own host as user name; with `password`."""
    password: Secret | None = None
    """What is sent to the index's own host as password; with `username`."""

    def __post_init__(self) -> None:
        check_url(self.url, "url")
        _check_patterns("projects", self.projects)
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together; give both, or leave both out")


class Upstream(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """How a repo answers for a project that it does not hold."""

    url: _Url | None = None
    """Simple index queried for projects that the repo does not hold; None: the server's --extra_index_url."""
    mode: Literal["None", "Pages", "Cached"] = "Pages"
    """Pages: answer with the other index's page; Cached: also keep its pages and files; None: never query it."""
    reserved: _Patterns = ()
    """Name patterns (`acme-*`) that are never queried there."""
    allow_shadowing: _Patterns = ()
    """Name patterns queried there although `reserved` matches them or the repo holds them."""
    sources: Annotated[tuple[UpstreamSource, ...], Meta(max_length=MAX_SOURCES)] = ()
    """Instead of `url`: several indexes. The first one that matches a name and has the project answers alone."""

    def __post_init__(self) -> None:
        if self.url is not None:
            check_url(self.url, "url")
            if self.sources:
                raise ValueError("url and sources exclude each other; make the url the last of the sources")
        for field, patterns in (("reserved", self.reserved), ("allow_shadowing", self.allow_shadowing)):
            _check_patterns(field, patterns)


def _check_patterns(field: str, patterns: tuple[str, ...]) -> None:
    wrong = next((p for p in patterns if not is_name_pattern(p)), None)
    if wrong is not None:
        raise ValueError(f"{field} holds {wrong[:80]!r}; write a project's name, in which * stands for any characters")


class BackendSpec(
    Redacted,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="type",
):
    """The fields that every backend's table may have. A backend's own spec adds fields and a tag."""

    default_index_filename: ClassVar[str] = "index.json"
    place: ClassVar[tuple[str, ...]] = ()
    """Names of the fields that identify the storage, for a storage that knows clients itself."""

    read_secret: Secret | None = None
    """The secret that clients send to read."""
    write_secret: Secret | None = None
    """The secret that clients send to read and publish."""
    anonymous_read: bool = False
    """Whether clients without credentials may read."""
    access: Annotated[tuple[AccessEntry, ...], Meta(max_length=MAX_ENTRIES)] = ()
    """Who else may do what, by identities; several entries about one client add up."""
    index_filename: IndexFilename | None = None
    """Name of the index file; its extension chooses the codec. None: the backend's default."""
    max_file_bytes: FileBytes = LARGEST_FILE
    """Maximum size of a file, in bytes."""
    sync_index_interval: Annotated[int, Meta(ge=1, le=86400)] = 60
    """Seconds between two polls of the index, for backends where frequent polls have a cost."""
    upstream: Upstream = Upstream()
    """The extra index."""

    def __post_init__(self) -> None:
        """Check the forms of the fields. A spec with checks of its own calls this, too. Raises ValueError."""
        verify_forms(self)
        check_entries(self.access)

    @property
    def index_name(self) -> str:
        """The index file's name."""
        return self.index_filename or self.default_index_filename


class FileSystemSpec(BackendSpec, frozen=True, kw_only=True, tag="file_system"):
    """A folder, possibly shared by several servers."""

    default_index_filename: ClassVar[str] = "index.toml"

    owner: Annotated[str, Meta(max_length=320)] | None = None
    """`namespace/name` of the resource that owns the data, recorded in the folder; another owner is rejected."""


class MemorySpec(BackendSpec, frozen=True, kw_only=True, tag="memory"):
    """The server's memory; the data is lost when the server ends. For tests and trials."""


class GithubSpec(BackendSpec, frozen=True, kw_only=True, tag="github"):
    """A GitHub repository: each file is an asset of a release of its own."""

    default_index_filename: ClassVar[str] = "index.toml"
    place: ClassVar[tuple[str, ...]] = ("api_url", "owner", "repo")

    owner: GithubOwner
    """User or organisation that owns the GitHub repository."""
    repo: GithubRepo
    """The GitHub repository's name."""
    branch: Branch = "master"
    """Branch that holds the index file."""
    max_file_bytes: FileBytes = LARGEST_GITHUB_FILE
    """Maximum size of a file, in bytes."""
    api_url: str = DEFAULT_GITHUB_API_URL
    """URL of GitHub's API; for GitHub Enterprise https://HOST/api/v3."""
    download: Download = "redirect"
    """redirect: clients fetch files from GitHub, by a signed URL that expires; stream: the server passes them on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_url(self.api_url, "api_url")


class AdminSecret(Redacted, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The secret with which the server itself reads a backend: exactly one of raw, env and file."""

    type: str
    raw: str | None = None
    env: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.raw, self.env, self.file)) != 1:
            raise ValueError("name exactly one of raw, env and file")

    @property
    def secret(self) -> Secret:
        """The secret, or a reference to it."""
        return self.raw if self.raw is not None else SecretRef(self.env, self.file)


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed configuration with its admin secrets."""

    repos: Mapping[RepoName, BackendSpec] = {}
    admin_secrets: Mapping[RepoName, AdminSecret] = {}
    credentials_revision: str | None = None
    """The content that each `credentials_revision_file` must have for the mounted secrets to belong to this text."""
    credentials_revision_file: tuple[str, ...] = ()
    """Paths of files; several if the secrets are delivered in several parts."""
    policies_file: str | None = None
    """Path of the policies' JSON document; None: there are no policies."""
    policies_digest: str | None = None
    """SHA-256 of the document that belongs to this text, in hex; None: any document does."""
    identity_file: str | None = None
    """Path of the identity document; None: the server believes nobody but the holders of its repos' secrets."""
    identity_digest: str | None = None
    """As `policies_digest`."""


_REVISION = "credentials_revision"
_REVISION_FILE = "credentials_revision_file"
_POLICIES = ("policies_file", "policies_digest")
_IDENTITY = ("identity_file", "identity_digest")
_DOCUMENTS = (_POLICIES, _IDENTITY)
"""Keys of documents beside the configuration: the path, and the SHA-256 of the text."""
_TEXT_KEYS = {_REVISION, *_POLICIES, *_IDENTITY}
OWN_KEYS = frozenset({_REVISION_FILE, *_TEXT_KEYS})
"""The keys of the configuration itself, which no repo may have as its name."""
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
DIGEST_ROUNDS = 100_000


def parse_config(
    config: str,
    admin_secret: str,
    *,
    specs: Mapping[str, type[BackendSpec]],
    source: str = "config",
    admin_source: str = "admin_secret",
) -> ServerConfig:
    """Parse both TOML texts; `specs` are the installed backends' structs, by type.

    Raises InvalidConfigError: one sentence with the table, the field and the remedy.
    """
    repos: dict[RepoName, BackendSpec] = {}
    own: dict[str, str] = {}
    revision_files: tuple[str, ...] = ()
    for key, table in loads(config, source).items():
        if key in _TEXT_KEYS and isinstance(table, str):
            own[key] = table
            continue
        if key == _REVISION_FILE and isinstance(table, str | list):
            revision_files = _revision_files(table, source)
            continue
        name = _table_name(key, table, repos, source)
        repos[name] = parse_spec(table, specs, f"{source}, table [{key}]")
    admin_secrets: dict[RepoName, AdminSecret] = {}
    for key, table in loads(admin_secret, admin_source).items():
        name = _table_name(key, table, admin_secrets, admin_source)
        secret = convert(table, AdminSecret, f"{admin_source}, table [{key}]")
        if name in repos and secret.type != type_of(repos[name]):
            raise InvalidConfigError(
                f"{admin_source}, table [{key}]: type is {secret.type!r}, but the repo's is "
                f"{type_of(repos[name])!r} in {source}; make them equal."
            )
        admin_secrets[name] = secret
    for file_key, digest_key in _DOCUMENTS:
        _check_document(own, file_key, digest_key, source)
    return ServerConfig(
        repos=repos,
        admin_secrets=admin_secrets,
        credentials_revision=own.get(_REVISION),
        credentials_revision_file=revision_files,
        policies_file=own.get(_POLICIES[0]),
        policies_digest=own.get(_POLICIES[1]),
        identity_file=own.get(_IDENTITY[0]),
        identity_digest=own.get(_IDENTITY[1]),
    )


def config_digest(config: str, admin_secret: str, policies_digest: str = "", identity_digest: str = "") -> str:
    """Return a digest of a configuration's texts, with which replicas report what they serve.

    `policies_digest` is that of the policies if `config` itself does not name it, `identity_digest` likewise. Slow
    (0.1 s regardless of the size), because the digest is public and the texts may hold secrets, which could otherwise
    be brute-forced.
    """
    more = [policies_digest] if policies_digest else []
    more += [f"identity {identity_digest}"] if identity_digest else []
    texts = "\0".join([config, admin_secret, *more]).encode()
    return hashlib.pbkdf2_hmac("sha256", texts, b"pywharf configuration", DIGEST_ROUNDS).hex()


def parse_spec(table: Mapping[str, Any], specs: Mapping[str, type[BackendSpec]], source: str) -> BackendSpec:
    """Parse one repo's table; its `type` chooses the struct. Raises InvalidConfigError."""
    kind = table.get("type")
    known = ", ".join(sorted(specs))
    if kind is None:
        raise InvalidConfigError(f"{source}: type is missing; name one of {known}.")
    if not isinstance(kind, str) or kind not in specs:
        raise InvalidConfigError(f"{source}: type is {str(kind)[:80]!r}; the backends installed here are {known}.")
    return convert(table, specs[kind], source)


def type_of(spec: BackendSpec) -> str:
    """Return the backend's type, as its tables name it."""
    return str(type(spec).__struct_config__.tag)


def _check_document(own: Mapping[str, str], file_key: str, digest_key: str, source: str) -> None:
    digest = own.get(digest_key)
    if own.get(file_key) == "":
        raise InvalidConfigError(f"{source}: {file_key!r} is empty; give the path of a file, or leave it out.")
    if digest is None:
        return
    if file_key not in own:
        raise InvalidConfigError(f"{source}: {digest_key!r} needs {file_key!r}, whose digest it is.")
    if not _SHA256.match(digest):
        raise InvalidConfigError(f"{source}: {digest_key!r} is no SHA-256 in lower-case hex.")


def _revision_files(given: str | list[object], source: str) -> tuple[str, ...]:
    paths = [given] if isinstance(given, str) else given
    if not paths or not all(isinstance(path, str) and path for path in paths):
        raise InvalidConfigError(
            f"{source}: {_REVISION_FILE!r} is neither the path of a file nor a list of such paths."
        )
    return tuple(str(path) for path in paths)


def _table_name(key: str, table: object, seen: Mapping[RepoName, object], source: str) -> RepoName:
    if not isinstance(table, dict):
        raise InvalidConfigError(f"{source}: {key!r} is not a table; each repo is one, for example [team-a].")
    try:
        name = parse_repo_name(key)
    except InvalidNameError as error:
        raise InvalidConfigError(f"{source}: {error}") from None
    if name in OWN_KEYS:
        raise InvalidConfigError(f"{source}: {key!r} is the configuration's own key; give the repo another name.")
    if name in seen:
        raise InvalidConfigError(
            f"{source}: the repo {name!r} stands there twice (upper and lower case are the same name)."
        )
    return name
