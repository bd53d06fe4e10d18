"""PURE. The issuers of an identity document, by the `iss` of their tokens, with the keys that it holds."""

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from pywharf.core.access.identity_document import IdentityDocument
from pywharf.core.access.jwt_claims import Expected
from pywharf.core.access.jwt_keys import BadKeysError, KeySet, check_library, read_keys
from pywharf.core.errors import InvalidConfigError

_REVIEWED_S: Final = 600.0
"""Seconds for which a browser's session outlives the review of the token by which somebody signed in.

The token is reviewed at each request, but a cookie holds none that could be. `expirationSeconds` has the same minimum.
"""


class TrustedIssuer(msgspec.Struct, frozen=True):
    """An issuer whose tokens are believed."""

    issuer: str
    """The `iss`."""
    expected: Expected
    keys: KeySet | None
    """None: they are followed, or the API server is asked about each token."""
    is_reviewed: bool = False
    """Whether the API server is asked."""

    @property
    def is_followed(self) -> bool:
        """Return whether the issuer's keys must be fetched."""
        return self.keys is None and not self.is_reviewed


def compile_issuers(document: IdentityDocument) -> Mapping[str, TrustedIssuer]:
    """Return the issuers by `iss`. Raises InvalidConfigError if inline keys, or the library, cannot be used."""
    check_library()
    found: dict[str, TrustedIssuer] = {}
    cluster = document.cluster
    if cluster is not None:
        keys = None if cluster.token_review else _keys(cluster.jwks, "the cluster")
        # The API server's own audience is its issuer, unless a flag of its gives others.
        foreign = frozenset({cluster.issuer, *cluster.audiences})
        expected = Expected("", document.audience, foreign, _REVIEWED_S if cluster.token_review else math.inf)
        found[cluster.issuer] = TrustedIssuer(cluster.issuer, expected, keys, is_reviewed=cluster.token_review)
    for one in document.issuers:
        keys = None if one.jwks is None else _keys(one.jwks, f"the issuer {one.name!r}")
        expected = Expected(one.name, one.audience or document.audience)
        found[one.issuer] = TrustedIssuer(one.issuer, expected, keys)
    return found


def _keys(jwks: Mapping[str, object], whose: str) -> KeySet:
    try:
        return read_keys(jwks)
    except BadKeysError as error:
        raise InvalidConfigError(f"The jwks of {whose} cannot be used: {error}.") from error
