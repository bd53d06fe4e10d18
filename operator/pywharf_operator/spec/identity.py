"""Whom a server believes besides the holders of its repos' secrets."""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from pywharf.config.forms import Url
from pywharf.core.access.identity_document import DEFAULT_AUDIENCE, MAX_ISSUERS, MAX_JWKS_BYTES
from pywharf.core.access.jwt_keys import BadKeysError, read_keys
from pywharf.core.access.known_issuers import KNOWN_ISSUERS, RESERVED_NAMES
from pywharf.core.errors import InvalidConfigError
from pywharf_operator.spec.forms import Audience, Namespace, Network
from pywharf_operator.spec.model import Model, Rule

MOST_JWKS_BYTES: Final = 128 * 1024
"""Most bytes of all issuers' keys together: they share a ConfigMap with the repos' tables."""


def check_jwks(text: str) -> None:
    """Raise ValueError unless the text is a set of public keys, of which a server could use one at least."""
    if len(text) > MAX_JWKS_BYTES:
        raise ValueError(f"at most {MAX_JWKS_BYTES} characters are allowed, not {len(text)}")
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise ValueError('it must be JSON, as the issuer\'s jwks_uri answers: {"keys": [{"kty": …}]}') from None
    try:
        read_keys(found)
    except BadKeysError as error:
        raise ValueError(str(error)) from None
    except InvalidConfigError:  # the library that reads keys is not installed here; the server has it
        return


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
    )

    name: Annotated[Namespace, Meta(description="The issuer's name, which access entries use.")]
    url: Annotated[
        Url | None,
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

    def __post_init__(self) -> None:
        """Raise ValueError as every model, and for keys that cannot be used, without showing what may be private."""
        Model.__post_init__(self)
        if self.jwks is not None:
            try:
                check_jwks(self.jwks)
            except ValueError as error:
                raise ValueError(f"jwks: {error}") from None

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
        """Raise ValueError as every model, and for a name or a URL that two issuers have."""
        Model.__post_init__(self)
        for what, values in (
            ("name", [one.name for one in self.issuers]),
            ("url", [one.address for one in self.issuers]),
        ):
            if twice := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"issuers: two have the {what} {twice[0]}; list each {what} once")
