"""Whom a server believes, as it is delivered to it: one JSON document beside the configuration.

A field that a server does not know is an error: it may be a newer operator's restriction.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from pywharf.core.msgspec_warmup import warmed_up

MAX_ISSUERS = 16
"""Most issuers of a server, the cluster's not counted."""
MAX_JWKS_BYTES = 64 * 1024
"""Bytes of an issuer's keys, as JSON."""
DEFAULT_AUDIENCE = "pywharf"


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """An OIDC issuer."""

    name: Annotated[str, Meta(pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    url: Annotated[str, Meta(min_length=1, max_length=2048)]
    """The `iss` of its tokens, compared as it is."""
    audience: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    """The `aud` that its tokens must have. None: the server's."""
    jwks: dict[str, Any] | None = None
    """Its keys (RFC 7517). None: they are fetched by discovery and followed."""


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
    """`github` and `gitlab` need not be listed with `url`s of their own: the operator writes the known ones."""
