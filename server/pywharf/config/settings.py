"""PURE. The settings of the commands: flags and environment variables, parsed once into frozen structs."""

from typing import Annotated, Literal

from msgspec import Meta

from pywharf.core.endpoints import allowed_reach, check_endpoints, entries_of
from pywharf.core.forwarded import parse_networks
from pywharf.core.redaction import Redacted
from pywharf.core.urls import check_url, is_http

DEFAULT_EXTRA_INDEX_URL = "https://pypi.org/simple/"
DEFAULT_API_SERVER_URL = "https://kubernetes.default.svc"


class ServerSettings(Redacted, frozen=True, kw_only=True):
    """The settings of `pywharf server`. The descriptions are its help and its documentation."""

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
        Meta(description="Simple index asked for projects that a repo does not hold; empty: no such index."),
    ] = DEFAULT_EXTRA_INDEX_URL
    allowed_endpoints: Annotated[
        str | None,
        Meta(
            description=(
                "Hosts that the server may connect to, separated by commas: HOST, HOST:PORT, *.HOST, or * for every "
                "public address. Default: those that the configuration names, and for redirects PyPI's and GitHub's."
            )
        ),
    ] = None
    debug: Annotated[bool, Meta(description="Log at the debug level.")] = False
    host: Annotated[str, Meta(description="Address to listen on; `::`: all, of IPv6 and IPv4.")] = "::"
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
    audit_log: Annotated[
        Literal["off", "json"],
        Meta(
            description="Form of the line that each publish, change, refusal, login and minted token leaves on stderr."
        ),
    ] = "json"
    trusted_proxies: Annotated[
        str | None,
        Meta(
            description=(
                "Addresses and networks of proxies, separated by commas, whose X-Forwarded-For, X-Forwarded-Proto and "
                "X-Request-Id are believed. Default: no proxy is asked for a client's address."
            )
        ),
    ] = None
    proxy_headers: Annotated[
        bool,
        Meta(
            description=(
                "Whether the X-Forwarded-User and X-Forwarded-Groups of --trusted_proxies say who a person is. The "
                "proxies must remove those that clients send."
            )
        ),
    ] = False
    tls_cert: Annotated[
        str | None, Meta(description="Path of the certificate chain (PEM); read again when it changes.")
    ] = None
    tls_key: Annotated[str | None, Meta(description="Path of the certificate's key (PEM).")] = None
    session_secret: Annotated[
        str | None,
        Meta(
            description=(
                "Path of the key that signs browsers' sessions, shared by replicas; default: a new one at each start."
            )
        ),
    ] = None
    initialize_secret: Annotated[
        str | None,
        Meta(description="Path of the secret that POST /initialize/ asks for; without it the call is off."),
    ] = None
    backlog: Annotated[int, Meta(ge=1, le=65535, description="Connections that wait to be accepted.")] = 1024
    keepalive_timeout: Annotated[float, Meta(ge=0, le=3600, description="Seconds that an idle connection is kept.")] = (
        75.0
    )
    max_connections: Annotated[
        int,
        Meta(
            ge=0,
            description="Connections of a worker; further ones wait. 0: as many as open files allow, up to 2048.",
        ),
    ] = 0
    max_uploads: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="Uploads received at once by a worker, at most half of them of one repo; others get 503.",
        ),
    ] = 256
    max_staged_bytes: Annotated[
        Annotated[int, Meta(ge=1, le=2**53)] | None,
        Meta(
            description=(
                "Bytes on disk of all uploads that are being received, at most half of them of one repo; others get "
                "503. Workers share them evenly. Default: as many as fit."
            )
        ),
    ] = None
    advisories: Annotated[
        str | None,
        Meta(
            description=(
                "Feed of advisories in OSV's format, as a URL or a path: a zip with a JSON file for each entry, or "
                "lines of JSON. Default: none."
            )
        ),
    ] = None
    advisories_interval: Annotated[
        float, Meta(ge=1, le=604_800, description="Seconds between two requests for a newer feed.")
    ] = 3600.0
    cache_config: Annotated[
        str | None,
        Meta(
            description=(
                "Path of the configuration (TOML) of the pull-through cache, which repos with upstream.mode Cached "
                "need; read at the start. Default: no cache."
            )
        ),
    ] = None
    token_review_url: Annotated[
        str,
        Meta(description="URL of the API server, if the identity document has it asked about ServiceAccount tokens."),
    ] = DEFAULT_API_SERVER_URL
    token_review_token_file: Annotated[
        str | None,
        Meta(
            description="Path of the token that the server sends to it; read for each review. Default: the pod's own."
        ),
    ] = None
    token_review_ca_file: Annotated[
        str | None,
        Meta(description="Path of its authority (PEM); read for each review. Default: the pod's own."),
    ] = None
    shutdown_delay: Annotated[
        float,
        Meta(ge=0, le=3600, description="Seconds after a SIGTERM in which new connections are still taken."),
    ] = 0.0
    shutdown_timeout: Annotated[
        float, Meta(ge=0, le=86400, description="Seconds that running transfers may take after a SIGTERM.")
    ] = 60.0

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls_cert and --tls_key go together: give both or neither")
        if self.extra_index_url:
            check_url(self.extra_index_url, "extra_index_url")
        check_endpoints(self.allowed_endpoints)
        if self.trusted_proxies is not None:
            parse_networks(self.trusted_proxies, "--trusted_proxies")
        elif self.proxy_headers:
            raise ValueError("--proxy_headers needs --trusted_proxies: otherwise anybody could claim to be anybody")
        check_url(self.token_review_url, "token_review_url")
        if not self.token_review_url.lower().startswith("https://"):
            raise ValueError("--token_review_url must begin with https://: tokens are sent there")
        if self.advisories is not None:
            check_advisories(self.advisories, self.allowed_endpoints)


def check_advisories(feed: str, endpoints: str | None = None) -> None:
    """Raise ValueError for a feed that can never be read."""
    if not feed.strip():
        raise ValueError("--advisories is empty; give a URL or a path, or leave it out")
    if not is_http(feed):
        if "://" in feed:
            raise ValueError("--advisories must be an http or https URL, or a path")
        return
    check_url(feed, "advisories")
    if endpoints is not None and allowed_reach(entries_of(endpoints), feed) is None:
        raise ValueError("--advisories names a host that is not among --allowed_endpoints; add it there")


class TargetSettings(Redacted, frozen=True, kw_only=True):
    """The settings of every command that works on one repo, besides type, name and the backend's own fields."""

    secret: Annotated[
        str | None,
        Meta(description="The secret with write permission. It shows in process lists: prefer --secret_file."),
    ] = None
    secret_env: Annotated[str | None, Meta(description="Environment variable that holds the secret.")] = None
    secret_file: Annotated[str | None, Meta(description="Path of a file that holds the secret.")] = None
    root: Annotated[str, Meta(description="The ROOT of the server, for file_system repos.")] = "."
    config: Annotated[str | None, Meta(description="Path of a configuration (TOML) that has the repo's table.")] = None
    admin_secret: Annotated[str | None, Meta(description="Path of the admin secrets (TOML).")] = None
    allowed_endpoints: Annotated[
        str | None, Meta(description="Hosts that may be connected to; as the server's flag of this name.")
    ] = None

    def __post_init__(self) -> None:
        check_endpoints(self.allowed_endpoints)


class UpdateIndexSettings(TargetSettings, frozen=True, kw_only=True):
    """The settings of `pywharf update_index`, besides type, name and the backend's own fields."""

    report: Annotated[
        str | None, Meta(description="Path of a file for the summary, or the error, as JSON of at most 4096 bytes.")
    ] = None


class FilesSettings(TargetSettings, frozen=True, kw_only=True):
    """The settings of every command that changes published files."""

    filename: Annotated[str | None, Meta(description="Name of the one file to change.")] = None
    version: Annotated[str | None, Meta(description="Version of the release whose files are all changed.")] = None


class YankSettings(FilesSettings, frozen=True, kw_only=True):
    """The settings of `pywharf yank`."""

    reason: Annotated[str, Meta(description="Why; installers show it to those who pin the version.")] = ""


class UnyankSettings(FilesSettings, frozen=True, kw_only=True):
    """The settings of `pywharf unyank`."""


class DeleteSettings(FilesSettings, frozen=True, kw_only=True):
    """The settings of `pywharf delete`."""

    yes: Annotated[bool, Meta(description="Delete without asking.")] = False
    free_name: Annotated[
        bool, Meta(description="Let the deleted names be published again, with other content, too.")
    ] = False


class SetStatusSettings(TargetSettings, frozen=True, kw_only=True):
    """The settings of `pywharf set_status`."""

    status: Annotated[
        Literal["active", "archived", "quarantined", "deprecated"], Meta(description="The project's status (PEP 792).")
    ]
    reason: Annotated[str | None, Meta(description="Why; pages show it.")] = None


class CacheSettings(Redacted, frozen=True, kw_only=True):
    """The settings of every command that works on the pull-through cache, besides ROOT."""

    cache_config: Annotated[
        str | None, Meta(description="Path of the cache's configuration (TOML), as the server's flag of this name.")
    ] = None
    project: Annotated[str | None, Meta(description="Only files of this project.")] = None
    filename: Annotated[str | None, Meta(description="Only the file of this name, with its core metadata.")] = None
    digest: Annotated[str | None, Meta(description="Only the file with this SHA-256, in hex.")] = None
    repo: Annotated[str | None, Meta(description="Only files that this repo has pinned.")] = None


class CacheListSettings(CacheSettings, frozen=True, kw_only=True):
    """The settings of `pywharf cache list`."""

    format: Annotated[
        Literal["table", "json"] | None,
        Meta(description="Form of the list; json: an object a line. Default: table on a terminal, otherwise json."),
    ] = None


class CacheRemoveSettings(CacheSettings, frozen=True, kw_only=True):
    """The settings of `pywharf cache remove`."""

    pinned: Annotated[bool, Meta(description="Remove pinned files, too, and their pins.")] = False
    yes: Annotated[bool, Meta(description="Remove without asking.")] = False


class ExchangeSettings(Redacted, frozen=True, kw_only=True):
    """The settings of `pywharf token exchange`, besides the URL."""

    file: Annotated[
        str | None,
        Meta(
            description=(
                "Path of a file that holds the OIDC token; -: standard input. Default: GitHub's or GitLab's "
                "environment, otherwise standard input."
            )
        ),
    ] = None
    repo: Annotated[
        str | None, Meta(description="The repo that the token is for. Default: that of the URL, otherwise all.")
    ] = None
    ca: Annotated[str | None, Meta(description="Path of the certificates (PEM) to trust instead of the system's.")] = (
        None
    )
