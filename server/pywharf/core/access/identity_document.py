"""Whom a server believes, as it is delivered to it: one JSON document beside the configuration.

A field that a server does not know is an error: it may be a newer operator's restriction.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from pywharf.core.access.known_issuers import KNOWN_ISSUERS, RESERVED_NAMES
from pywharf.core.errors import InvalidConfigError
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.urls import check_url

MAX_ISSUERS = 16
"""Most issuers of a server, the cluster's not counted."""
MAX_JWKS_BYTES = 64 * 1024
"""Bytes of an issuer's keys, as JSON."""
DEFAULT_AUDIENCE = "pywharf"


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """An OIDC issuer."""

    name: Annotated[str, Meta(pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    url: Annotated[str, Meta(min_length=1, max_length=2048)] | None = None
    """The `iss` of its tokens, compared as it is. None: that of the issuer which is known by this name."""
    audience: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    """The `aud` that its tokens must have. None: the server's."""
    jwks: dict[str, Any] | None = None
    """Its keys (RFC 7517). None: they are fetched by discovery and followed."""

    def __post_init__(self) -> None:
        if self.name in RESERVED_NAMES:
            raise ValueError(f"no issuer may be named {self.name!r}: subjects of another kind begin so")
        if self.url is None and self.name not in KNOWN_ISSUERS:
            known = " and ".join(sorted(KNOWN_ISSUERS))
            raise ValueError(f"the issuer {self.name!r} has no url; only {known} are known by name")
        if self.jwks is None:
            check_url(self.issuer, f"the url of the issuer {self.name!r}")
            if not self.issuer.lower().startswith("https://"):
                raise ValueError(f"the issuer {self.name!r}: without jwks its url must begin with https://")

    @property
    def issuer(self) -> str:
        """Return the `iss` of its tokens."""
        return self.url if self.url is not None else KNOWN_ISSUERS[self.name]


class Cluster(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The issuer of the cluster's ServiceAccount tokens."""

    issuer: Annotated[str, Meta(min_length=1, max_length=2048)]
    jwks: dict[str, Any]
    """Its keys, read by the operator. Empty with `token_review`."""
    audiences: Annotated[tuple[str, ...], Meta(max_length=16)] = ()
    """The API server's own audiences, as far as they are known; a token for one of them is refused with the reason."""
    token_review: bool = False
    """Whether the API server is asked about each token, instead of its keys."""


@warmed_up
class IdentityDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Everything by which one server verifies identities."""

    audience: Annotated[str, Meta(min_length=1, max_length=256)] = DEFAULT_AUDIENCE
    cluster: Cluster | None = None
    """None: no ServiceAccount is believed."""
    issuers: Annotated[tuple[Issuer, ...], Meta(max_length=MAX_ISSUERS)] = ()
    """Those of `known_issuers` need no `url`."""


def parse_document(content: bytes) -> IdentityDocument:
    """Parse and check a JSON document. Raises InvalidConfigError; then no part of it may be used."""
    try:
        document = msgspec.json.decode(content, type=IdentityDocument)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidConfigError(f"The identity document cannot be read: {error}.") from error
    cluster = document.cluster
    names, issuers = set[str](), {cluster.issuer} if cluster is not None else set[str]()
    for issuer in document.issuers:
        if issuer.name in names:
            raise InvalidConfigError(f"Two issuers are named {issuer.name!r}; names must be unique.")
        if issuer.issuer in issuers:
            raise InvalidConfigError(
                f"The issuer {issuer.name!r} has the URL of another issuer, or of the cluster; list each URL once."
            )
        names.add(issuer.name)
        issuers.add(issuer.issuer)
    return document
