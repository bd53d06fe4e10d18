"""Whom a server believes besides the holders of its repos' secrets."""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from pywharf.core.access.identity_document import DEFAULT_AUDIENCE, MAX_ISSUERS, MAX_JWKS_BYTES
from pywharf.core.access.known_issuers import KNOWN_ISSUERS, RESERVED_NAMES
from pywharf_operator.spec.forms import Audience, IssuerUrl, Namespace, Network
from pywharf_operator.spec.model import Model, Rule

MOST_JWKS_BYTES: Final = 128 * 1024
"""Most bytes of all issuers' keys together: they share a ConfigMap with the repos' tables."""


_BAD_PORT: Final = "^https?://[^/]*:(0+|6553[6-9]|655[4-9][0-9]|65[6-9][0-9]{2}|6[6-9][0-9]{3}|[7-9][0-9]{4})(/|$)"
_HOST_BITS: Final = (
    "^([0-9]+[.][0-9.]*[1-9][0-9.]*/8|[0-9]+[.][0-9]+[.][0-9.]*[1-9][0-9.]*/16|([0-9]+[.]){3}[0-9]*[1-9][0-9]*/24)$"
)
"""The common lengths: the cluster's oldest API server compares no networks."""
_MAPPED: Final = "^::[fF]{4}:[0-9a-fA-F]{1,4}:[0-9a-fA-F]{1,4}(/[0-9]+)?$"
# A rule without `holds` is the schema's alone. An object that was stored before must still be readable: what is wrong
# with it is left out by render/resolve/usable_identity.py, and everything else of the server goes on.


class Issuer(Model, frozen=True, kw_only=True):
    """An OIDC issuer whose tokens are believed."""

    rules = (
        Rule(
            cel=f"has(self.url) || self.name in {sorted(KNOWN_ISSUERS)}",
            message="issuers: url is missing; only those of github and gitlab are known by name",
            holds=lambda issuer: issuer.url is not None or issuer.name in KNOWN_ISSUERS,
        ),
        Rule(
            cel=f"!(self.name in {sorted(RESERVED_NAMES)})",
            message="issuers: system, token and user are no names; subjects of other kinds begin so in the audit log",
            holds=lambda issuer: issuer.name not in RESERVED_NAMES,
        ),
        Rule(
            cel="has(self.jwks) || !has(self.url) || self.url.startsWith('https://')",
            message="issuers: url is plain http, where anybody could change the keys; use https, or give the jwks",
            holds=lambda issuer: issuer.jwks is not None or not (issuer.url or "").startswith("http:"),
        ),
        Rule(
            cel=f"!has(self.url) || !self.url.matches('{_BAD_PORT}')",
            message="issuers: url has a port that does not exist; ports are 1 to 65535",
        ),
        Rule(
            cel="!has(self.jwks) || self.jwks.contains('\"keys\"')",
            message="issuers: jwks has no list of keys; give what the issuer's jwks_uri answers",
        ),
    )

    name: Annotated[Namespace, Meta(description="The issuer's name, which access entries use.")]
    url: Annotated[
        IssuerUrl | None,
        Meta(
            description=(
                "The `iss` of its tokens, exactly as they have it. Absent: that of github.com or gitlab.com, for the "
                "names github and gitlab."
            )
        ),
    ] = None
    audience: Annotated[
        Audience | None, Meta(description="The `aud` that its tokens must have. Absent: identity.audience.")
    ] = None
    jwks: Annotated[
        str | None,
        Meta(
            # The parser would show the beginning of a longer text, and somebody may have given a private key.
            extra_json_schema={"maxLength": MAX_JWKS_BYTES},
            description=(
                "Its public keys, as JSON, where the server cannot reach it. Absent: they are fetched by "
                "URL/.well-known/openid-configuration and followed."
            ),
        ),
    ] = None

    @property
    def address(self) -> str:
        """The `iss` of its tokens."""
        return self.url if self.url is not None else KNOWN_ISSUERS[self.name]

    @property
    def keys(self) -> dict[str, Any] | None:
        """The keys that are given."""
        return None if self.jwks is None else msgspec.json.decode(self.jwks, type=dict[str, Any])


class Identity(Model, frozen=True, kw_only=True):
    """By what clients prove who they are, for the access entries of repos."""

    rules = (
        Rule(
            cel=(
                "!has(self.proxyHeaders) || !self.proxyHeaders || "
                "(has(self.trustedProxies) && self.trustedProxies.size() > 0)"
            ),
            message="identity: proxyHeaders are believed from trustedProxies alone; list the proxy's addresses there",
            holds=lambda identity: not identity.proxy_headers or bool(identity.trusted_proxies),
        ),
        Rule(
            cel=(
                "!has(self.issuers) || "
                f"self.issuers.map(one, has(one.jwks) ? one.jwks.size() : 0).sum() <= {MOST_JWKS_BYTES}"
            ),
            message=f"identity: the jwks of all issuers may have {MOST_JWKS_BYTES} characters together; shorten them",
            holds=lambda identity: sum(len(one.jwks or "") for one in identity.issuers) <= MOST_JWKS_BYTES,
        ),
        Rule(
            cel=(
                "!has(self.issuers) || self.issuers.all(one, !has(one.url) || "
                "self.issuers.exists_one(other, has(other.url) && other.url == one.url))"
            ),
            message="identity: two issuers have one url; list each url once",
        ),
        Rule(
            cel=f"!has(self.trustedProxies) || self.trustedProxies.all(one, !one.matches('{_HOST_BITS}'))",
            message=(
                "identity: a network of trustedProxies has bits past its length; give the network's own address, such "
                "as 10.0.0.0/8"
            ),
        ),
        Rule(
            cel=f"!has(self.trustedProxies) || self.trustedProxies.all(one, !one.matches('{_MAPPED}'))",
            message="identity: an address of trustedProxies is an IPv4 address in IPv6's form; write it as IPv4",
        ),
    )

    audience: Annotated[
        Audience,
        Meta(
            description=(
                "The `aud` that tokens must have: that of pods' projected tokens, and of issuers that have none of "
                "their own. Never the API server's own."
            )
        ),
    ] = DEFAULT_AUDIENCE
    service_accounts: Annotated[
        Literal["Offline", "TokenReview", "Off"],
        Meta(
            description=(
                "How tokens of ServiceAccounts are verified. Offline: by the cluster's public keys, which the operator "
                "delivers. TokenReview: by the API server, which knows deleted pods; needs a right that the chart "
                'grants. "Off", in quotes, as YAML takes it for false without them: not at all.'
            )
        ),
    ] = "Offline"
    issuers: Annotated[
        tuple[Issuer, ...],
        Meta(
            max_length=MAX_ISSUERS,
            description="The OIDC issuers whose tokens are believed; github and gitlab need nothing but their names.",
            extra={"list_map_keys": ("name",)},
        ),
    ] = ()
    trusted_proxies: Annotated[
        tuple[Network, ...],
        Meta(
            max_length=64,
            description="Addresses and networks of proxies, whose X-Forwarded-For says where a client is.",
        ),
    ] = ()
    proxy_headers: Annotated[
        bool,
        Meta(
            description=(
                "Whether X-Forwarded-User and X-Forwarded-Groups of trustedProxies say who a person is. The proxy must "
                "authenticate people and remove these headers from what they send."
            )
        ),
    ] = False

    def __post_init__(self) -> None:
        """Raise ValueError as every model, and for a name that two issuers have, which no API server stores."""
        Model.__post_init__(self)
        names = [one.name for one in self.issuers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"issuers: two have the name {twice[0]}; list each name once")
