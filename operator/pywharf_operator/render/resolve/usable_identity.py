"""PURE. The parts of `spec.identity` that a server can use. Each part with a fault is left out alone, and named."""

import functools
from typing import Final

import msgspec

from pywharf.core.access.identity_document import MAX_JWKS_BYTES
from pywharf.core.access.jwt_keys import BadKeysError, read_keys
from pywharf.core.errors import InvalidConfigError
from pywharf.core.forwarded import parse_networks
from pywharf.core.urls import check_url
from pywharf_operator.render.resolve.findings import Finding, refused
from pywharf_operator.spec.identity import Identity, Issuer

_MOST_CACHED: Final = 64
"""Servers, and issuers' keys. Each reconcile asks several times, and reading keys takes milliseconds."""


class UsableIdentity(msgspec.Struct, frozen=True):
    """What is left of `spec.identity`, and why the rest is not."""

    issuers: tuple[Issuer, ...]
    trusted_proxies: tuple[str, ...]
    faults: tuple[Finding, ...]

    @property
    def fault(self) -> Finding | None:
        """All faults in one finding with the first one's reason; None without any."""
        if not self.faults:
            return None
        return refused(self.faults[0].reason, " ".join(one.message for one in self.faults))


@functools.lru_cache(maxsize=_MOST_CACHED)
def usable_identity(identity: Identity) -> UsableIdentity:
    """Return the issuers and proxies that a server can use. Of two issuers with one URL the first one stays."""
    issuers: dict[str, Issuer] = {}
    faults: list[Finding] = []
    for issuer in identity.issuers:
        fault = _fault_of(issuer)
        if fault is None and (same := issuers.get(issuer.address)) is not None:
            fault = f"has the url of {same.name}; list each url once"
        if fault is None:
            issuers[issuer.address] = issuer
        else:
            message = f"spec.identity.issuers: {issuer.name} {fault}. Until then the issuer is left out."
            faults.append(refused("IssuerInvalid", message))
    proxies = []
    for network in identity.trusted_proxies:
        try:
            parse_networks(network, "spec.identity.trustedProxies")
        except ValueError as error:
            faults.append(refused("ProxyInvalid", f"{error}. Until then no proxy of this entry is believed."))
        else:
            proxies.append(network)
    return UsableIdentity(tuple(issuers.values()), tuple(proxies), tuple(faults))


def _fault_of(issuer: Issuer) -> str | None:
    """Return what is wrong with an issuer, and what to do; None if a server can use it."""
    if issuer.url is not None:
        try:
            check_url(issuer.url, "its url")
        except ValueError as error:
            return f"cannot be used: {error}"
    found = None if issuer.jwks is None else _fault_of_keys(issuer.jwks)
    return None if found is None else f"has no keys that a server could use: {found}; correct its jwks"


@functools.lru_cache(maxsize=_MOST_CACHED)
def _fault_of_keys(text: str) -> str | None:
    """Return why a text is no set of public keys that a server could use, without what may be private."""
    if len(text) > MAX_JWKS_BYTES:
        return f"at most {MAX_JWKS_BYTES} characters are allowed, not {len(text)}"
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return 'it must be JSON, as the issuer\'s jwks_uri answers: {"keys": [{"kty": …}]}'
    try:
        read_keys(found)
    except BadKeysError as error:
        return str(error)
    except InvalidConfigError:  # the library that reads keys is not installed here; the server has it
        return None
    return None
