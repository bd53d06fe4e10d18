"""Every setting of the server, and the backends' configuration: parsed once, strictly, into frozen structs.

Pure: of the server, the operator imports only this and `pywharf.core`.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from pywharf.core.decoding import decodable
from pywharf.core.errors import InvalidConfigError, InvalidNameError
from pywharf.core.names import RepoName, parse_repo_name
from pywharf.core.toml_text import loads

# The product's own defaults, and its only addresses of the outside world.
DEFAULT_EXTRA_INDEX_URL = "https://pypi.org/simple/"
DEFAULT_GITHUB_API_URL = "https://api.github.com"

S = TypeVar("S", bound=msgspec.Struct)
_URL_CHARACTERS = re.compile(r"[!-~]*\Z")
_NAME_PATTERN = re.compile(r"[A-Za-z0-9*]([A-Za-z0-9._*-]*[A-Za-z0-9*])?\Z")


def without_secrets(struct: msgspec.Struct) -> str:
    """A struct's representation in which whatever may be a secret is left out, so that no log or traceback holds it."""
    shown = (
        f"{field}={'...' if _MAY_BE_SECRET.search(field) and value is not None else repr(value)}"
        for field, value in zip(struct.__struct_fields__, msgspec.structs.astuple(struct), strict=True)
    )
    return f"{type(struct).__name__}({', '.join(shown)})"


_MAY_BE_SECRET = re.compile(r"secret|key|raw|password|token|\Aconfig\Z")
"""Names of fields; `config` may be a text with secrets in it."""


class SecretRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a secret stands: `{env = "NAME"}` or `{file = "/path"}`."""

    env: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        if (self.env is None) == (self.file is None):
            msg = 'name exactly one of env and file, for example {file = "/run/secrets/read"}'
            raise ValueError(msg)


Secret = str | SecretRef
"""A secret in the text itself, or where it stands."""


class Upstream(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What a repo answers for a project it does not hold."""

    url: Annotated[str, Meta(max_length=2048)] | None = None
    """Simple index asked for projects that the repo does not hold; None: the server's --extra_index_url."""
    mode: Literal["None", "Pages"] = "Pages"
    """Pages: answer with the other index's page; None: never ask it."""
    reserved: tuple[Annotated[str, Meta(max_length=256)], ...] = ()
    """Name patterns (`acme-*`) that are never looked up there."""
    allow_shadowing: tuple[Annotated[str, Meta(max_length=256)], ...] = ()
    """Name patterns looked up there although `reserved` matches them or the repo holds them."""

    def __post_init__(self) -> None:
        if self.url is not None:
            check_url(self.url, "url")
        for field, patterns in (("reserved", self.reserved), ("allow_shadowing", self.allow_shadowing)):
            wrong = next((p for p in patterns if not _NAME_PATTERN.match(p)), None)
            if wrong is not None:
                msg = f"{field} holds {wrong[:80]!r}; write a project's name, in which * stands for any characters"
                raise ValueError(msg)


class BackendSpec(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="type",
):
    """What every backend's table may hold. A backend's own spec adds fields and a tag."""

    default_index_filename: ClassVar[str] = "index.json"
    place: ClassVar[tuple[str, ...]] = ()
    """Fields that tell a storage that knows clients itself from others."""

    read_secret: Secret | None = None
    """What clients send to read."""
    write_secret: Secret | None = None
    """What clients send to read and publish."""
    anonymous_read: bool = False
    """Whether clients without credentials may read."""
    index_filename: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,100}\.(toml|json)$")] | None = None
    """Name of the index file; its extension chooses the codec. None: the backend's default."""
    max_file_bytes: Annotated[int, Meta(ge=1, le=2**53)] = 5 * 1024**3 - 1
    """The largest file that is taken, in bytes."""
    sync_index_interval: Annotated[int, Meta(ge=1, le=86400)] = 60
    """Seconds between looks at the index, for backends that cannot look often at no cost."""
    upstream: Upstream = Upstream()
    """The extra index."""

    def __repr__(self) -> str:
        """Nothing of the secrets."""
        return without_secrets(self)

    @property
    def index_name(self) -> str:
        """The index file's name."""
        return self.index_filename or self.default_index_filename


class FileSystemSpec(BackendSpec, frozen=True, kw_only=True, tag="file_system"):
    """A folder, possibly shared by several servers."""

    default_index_filename: ClassVar[str] = "index.toml"

    owner: Annotated[str, Meta(max_length=320)] | None = None
    """`namespace/name` of the resource the data belongs to, recorded in the folder; another owner is refused."""


class MemorySpec(BackendSpec, frozen=True, kw_only=True, tag="memory"):
    """The server's memory: gone with it. For tests and trials."""


class GithubSpec(BackendSpec, frozen=True, kw_only=True, tag="github"):
    """A GitHub repository: each file is an asset of a release of its own."""

    default_index_filename: ClassVar[str] = "index.toml"
    place: ClassVar[tuple[str, ...]] = ("api_url", "owner", "repo")
    """See BackendSpec."""

    owner: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,38}\Z")]
    """User or organisation that has the GitHub repository. Names of users that an enterprise manages hold a '_'."""
    repo: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,100}\Z")]
    """The GitHub repository's name."""
    branch: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/-]{0,243}\Z")] = "master"
    """Branch that holds the index file."""
    max_file_bytes: Annotated[int, Meta(ge=1, le=2**53)] = 2**31 - 1
    """The largest file that is taken, in bytes."""
    api_url: str = DEFAULT_GITHUB_API_URL
    """GitHub's API. Of GitHub Enterprise: https://HOST/api/v3."""
    download: Literal["redirect", "stream"] = "redirect"
    """redirect: clients fetch files from GitHub, by a signed URL that expires; stream: they come through the server."""

    def __post_init__(self) -> None:
        check_url(self.api_url, "api_url")
        if self.repo in {".", ".."}:  # they would lead elsewhere in a URL's path
            msg = f"repo is {self.repo!r}, which is no GitHub repository's name"
            raise ValueError(msg)


BUILT_IN_SPECS: Mapping[str, type[BackendSpec]] = {
    "file_system": FileSystemSpec,
    "github": GithubSpec,
    "memory": MemorySpec,
}


class AdminSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What the server itself reads a backend with: exactly one of raw, env and file."""

    type: str
    raw: str | None = None
    env: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.raw, self.env, self.file)) != 1:
            msg = "name exactly one of raw, env and file"
            raise ValueError(msg)

    def __repr__(self) -> str:
        """Nothing of the secrets."""
        return without_secrets(self)

    @property
    def secret(self) -> Secret:
        """The secret, or where it stands."""
        return self.raw if self.raw is not None else SecretRef(self.env, self.file)


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration and its admin secrets, parsed."""

    repos: Mapping[RepoName, BackendSpec] = {}
    admin_secrets: Mapping[RepoName, AdminSecret] = {}
    credentials_revision: str | None = None
    """What each `credentials_revision_file` must hold for the mounted secrets to belong to this text."""
    credentials_revision_file: tuple[str, ...] = ()
    """Several where the secrets are delivered in several parts."""


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `pywharf server` is told. The descriptions are its help and its documentation."""

    root: Annotated[
        str,
        Meta(description="Folder of the file_system repos, and of whatever else the server keeps on disk."),
    ]
    config: Annotated[str | None, Meta(description="Path of the repos' configuration (TOML).")] = None
    admin_secret: Annotated[
        str | None,
        Meta(description="Path of the admin secrets (TOML), which the server itself reads the backends with."),
    ] = None
    config_or_admin_secret_can_be_text: Annotated[
        bool,
        Meta(description="Whether the four options that name a file with text or a secret may hold the text itself."),
    ] = False
    auth_read_expires: Annotated[
        int, Meta(ge=0, le=31_536_000, description="Seconds that a read permission is remembered.")
    ] = 3600
    auth_write_expires: Annotated[
        int, Meta(ge=0, le=31_536_000, description="Seconds that a write permission is remembered.")
    ] = 300
    extra_index_url: Annotated[
        str,
        Meta(description="Simple index asked for projects that a repo does not hold; empty: none."),
    ] = DEFAULT_EXTRA_INDEX_URL
    debug: Annotated[bool, Meta(description="Log at the debug level.")] = False
    host: Annotated[str, Meta(description="Address to listen on.")] = "0.0.0.0"  # noqa: S104 - pods must be reached
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0: a free one.")] = 8888
    internal_port: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | None,
        Meta(description="Port of its own for probes, metrics and GET /config, which clients then cannot reach."),
    ] = None
    workers: Annotated[int, Meta(ge=1, le=256, description="Processes that share the port.")] = 1
    access_log: Annotated[
        Literal["off", "text", "json"],
        Meta(description="Form of the line that each request leaves on stderr."),
    ] = "text"
    tls_cert: Annotated[
        str | None, Meta(description="Path of the certificate chain (PEM); read again when it changes.")
    ] = None
    tls_key: Annotated[str | None, Meta(description="Path of the certificate's key (PEM).")] = None
    session_secret: Annotated[
        str | None,
        Meta(description="Path of the key that signs browsers' sessions, shared by replicas; none: a new one a start."),
    ] = None
    initialize_secret: Annotated[
        str | None,
        Meta(description="Path of the secret that POST /initialize/ asks for; none: the call is off."),
    ] = None
    backlog: Annotated[int, Meta(ge=1, le=65535, description="Connections that wait to be accepted.")] = 1024
    keepalive_timeout: Annotated[float, Meta(ge=0, le=3600, description="Seconds that an idle connection is kept.")] = (
        75.0
    )
    max_connections: Annotated[
        int, Meta(ge=0, description="Connections served at once by a worker, further ones wait; 0: no limit.")
    ] = 0
    shutdown_delay: Annotated[
        float,
        Meta(ge=0, le=3600, description="Seconds after a SIGTERM in which new connections are still taken."),
    ] = 0.0
    shutdown_timeout: Annotated[
        float, Meta(ge=0, le=86400, description="Seconds that running transfers may take after a SIGTERM.")
    ] = 60.0

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            msg = "--tls_cert and --tls_key go together: give both or neither"
            raise ValueError(msg)
        if self.extra_index_url:
            check_url(self.extra_index_url, "extra_index_url")

    def __repr__(self) -> str:
        """Nothing of the secrets."""
        return without_secrets(self)


class UpdateIndexSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `pywharf update_index` is told, besides type, name and the backend's own fields."""

    secret: Annotated[
        str | None,
        Meta(description="The secret with write permission. It shows in process lists: prefer --secret_file."),
    ] = None
    secret_env: Annotated[str | None, Meta(description="Environment variable that holds the secret.")] = None
    secret_file: Annotated[str | None, Meta(description="Path of a file that holds the secret.")] = None
    root: Annotated[str, Meta(description="The ROOT of the server, for file_system repos.")] = "."
    config: Annotated[str | None, Meta(description="Path of a configuration (TOML) that has the repo's table.")] = None
    admin_secret: Annotated[str | None, Meta(description="Path of the admin secrets (TOML).")] = None
    report: Annotated[
        str | None, Meta(description="Path of a file for the summary, or the error, as JSON of at most 4096 bytes.")
    ] = None

    def __repr__(self) -> str:
        """Nothing of the secrets."""
        return without_secrets(self)


def check_url(url: str, field: str) -> None:
    """Raise ValueError unless `url` is http(s) with a host and without user info, query or fragment."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    # What may hold a secret (user info, a token in the query) is not shown.
    if any(c in url for c in "@?#"):
        msg = f"{field} may hold no user info, query or fragment, so none of '@', '?' and '#'; leave them out"
        raise ValueError(msg)
    if not valid or not _URL_CHARACTERS.match(url):  # urlsplit passes over spaces and line ends
        msg = f"{field} is {url[:200]!r}; it must be an http or https URL such as {DEFAULT_EXTRA_INDEX_URL}"
        raise ValueError(msg)


_REVISION = "credentials_revision"
_REVISION_FILE = "credentials_revision_file"
_OWN_KEYS = {_REVISION, _REVISION_FILE}
_DIGEST_ROUNDS = 100_000
_PATH = re.compile(r"^(?P<reason>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"unknown field `(?P<field>[^`]*)`")
_SECRET_FIELD = re.compile(r"secret|raw|password|token|credential|private|stringdata|\bdata\b", re.IGNORECASE)


def convert(data: object, kind: type[S], source: str) -> S:
    """The data as a struct.

    Raises InvalidConfigError naming `source`, the field, its value unless it may be a secret, what is expected.
    """
    try:
        return msgspec.convert(data, decodable(kind))
    except msgspec.ValidationError as error:
        raise InvalidConfigError(describe(error, data, source)) from None


def describe(error: msgspec.ValidationError, data: object, source: str) -> str:
    """One sentence for a validation error of `data`."""
    matched = _PATH.match(str(error))
    reason, path = (matched["reason"], matched["path"] or "") if matched else (str(error), "")
    unknown = _UNKNOWN.search(reason)
    field = path.lstrip(".")
    if unknown:
        name = f"{field}.{unknown['field']}" if field else unknown["field"]
        return f"{source}: the field {name!r} is unknown; check its spelling and its indentation."
    reason = reason[:1].lower() + reason[1:]
    if not field:
        return f"{source}: {reason}."
    shown = "" if _SECRET_FIELD.search(field) else _shown(_value_at(data, path))
    return f"{source}: {field}{shown}: {reason}."


_MISSING = object()


def _value_at(data: object, path: str) -> object:
    value = data
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(value, Mapping):
            value = value.get(step, _MISSING)
        elif isinstance(value, list | tuple) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return _MISSING
    return value


def _shown(value: object) -> str:
    if isinstance(value, str):
        return "" if "@" in value else f" is {value[:120]!r}"  # a URL may hold a password before it
    return f" is {value!r}" if isinstance(value, int | float) else ""


def parse_config(
    config: str,
    admin_secret: str,
    *,
    specs: Mapping[str, type[BackendSpec]] = BUILT_IN_SPECS,
    source: str = "config",
    admin_source: str = "admin_secret",
) -> ServerConfig:
    """Both TOML texts. Raises InvalidConfigError: one sentence with the table, the field and the remedy."""
    repos: dict[RepoName, BackendSpec] = {}
    revision: str | None = None
    revision_files: tuple[str, ...] = ()
    for key, table in loads(config, source).items():
        if key == _REVISION and isinstance(table, str):
            revision = table
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
            msg = (
                f"{admin_source}, table [{key}]: type is {secret.type!r}, but the repo's is "
                f"{type_of(repos[name])!r} in {source}; make them equal."
            )
            raise InvalidConfigError(msg)
        admin_secrets[name] = secret
    return ServerConfig(
        repos=repos,
        admin_secrets=admin_secrets,
        credentials_revision=revision,
        credentials_revision_file=revision_files,
    )


def config_digest(config: str, admin_secret: str) -> str:
    """What replicas report of the configuration that they serve: a digest of its two texts.

    Slow, 0.1 s whatever their size, because everybody is told it and the texts may hold secrets, which could else be
    guessed and tried.
    """
    texts = f"{config}\0{admin_secret}".encode()
    return hashlib.pbkdf2_hmac("sha256", texts, b"pywharf configuration", _DIGEST_ROUNDS).hex()


def parse_spec(table: Mapping[str, Any], specs: Mapping[str, type[BackendSpec]], source: str) -> BackendSpec:
    """One repo's table; its `type` chooses the struct. Raises InvalidConfigError."""
    kind = table.get("type")
    known = ", ".join(sorted(specs))
    if kind is None:
        msg = f"{source}: type is missing; name one of {known}."
        raise InvalidConfigError(msg)
    if not isinstance(kind, str) or kind not in specs:
        msg = f"{source}: type is {str(kind)[:80]!r}; the backends installed here are {known}."
        raise InvalidConfigError(msg)
    return convert(table, specs[kind], source)


def type_of(spec: BackendSpec) -> str:
    """The backend's type, as its tables name it."""
    return str(type(spec).__struct_config__.tag)


def _revision_files(given: str | list[object], source: str) -> tuple[str, ...]:
    paths = [given] if isinstance(given, str) else given
    if not paths or not all(isinstance(path, str) and path for path in paths):
        msg = f"{source}: {_REVISION_FILE!r} is neither the path of a file nor a list of such paths."
        raise InvalidConfigError(msg)
    return tuple(str(path) for path in paths)


def _table_name(key: str, table: object, seen: Mapping[RepoName, object], source: str) -> RepoName:
    if not isinstance(table, dict):
        msg = f"{source}: {key!r} is not a table; each repo is one, for example [team-a]."
        raise InvalidConfigError(msg)
    try:
        name = parse_repo_name(key)
    except InvalidNameError as error:
        msg = f"{source}: {error}"
        raise InvalidConfigError(msg) from None
    if name in _OWN_KEYS:
        msg = f"{source}: {key!r} is the configuration's own key; give the repo another name."
        raise InvalidConfigError(msg)
    if name in seen:
        msg = f"{source}: the repo {name!r} stands there twice (upper and lower case are the same name)."
        raise InvalidConfigError(msg)
    return name
