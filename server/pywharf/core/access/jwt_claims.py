"""PURE. What the claims of a token prove, if its signature is right (RFC 7519, OpenID Connect, Kubernetes)."""

import math
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import msgspec

from pywharf.core.access.identities import Claims, ServiceAccount
from pywharf.core.access.jwt_parsing import MAX_TEXT
from pywharf.core.access.jwt_reasons import Reason, RefusedTokenError

LEEWAY_S: Final = 30.0
"""Seconds by which clocks may differ."""
MAX_LIFETIME_S: Final = 366 * 86_400.0
"""Seconds from now after which no token may end: nothing that lasts for years is worth an identity."""
_FAR_S: Final = 1e12
"""Unix seconds that no clock shows."""
_MAX_AUDIENCES: Final = 16
_KUBERNETES: Final = "kubernetes.io"
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_MAX_LABEL: Final = 63
_MAX_SUBDOMAIN: Final = 253


class Expected(msgspec.Struct, frozen=True):
    """What the claims of an issuer's tokens must say."""

    name: str
    """The issuer's name in access entries; "": it is the cluster's."""
    audience: str
    foreign_audiences: frozenset[str] = frozenset()
    """Audiences of the API server: a token for one of them could be used there by anybody who sees it."""
    proof_s: float = math.inf
    """Seconds after which what a token proved counts no longer, unless it is verified again."""


def issuer_of(claims: Mapping[str, Any]) -> str:
    """Return the `iss`. Raises RefusedTokenError."""
    return _text(claims, "iss", longest=2048)


def identity_of(claims: Mapping[str, Any], expected: Expected, now: float) -> ServiceAccount | Claims:
    """Check the claims and return the identity that they prove. `now`: Unix seconds. Raises RefusedTokenError."""
    expires = _check_times(claims, now)
    _check_audience(claims, expected)
    subject = _text(claims, "sub")
    if "jti" in claims:
        _text(claims, "jti")
    expires = min(expires, now + expected.proof_s)
    if not expected.name:
        return _service_account(claims, subject, expires)
    return Claims(expected.name, claims, expires)


def _check_times(claims: Mapping[str, Any], now: float) -> float:
    """Return the moment from which the token is worth nothing; clocks may differ by LEEWAY_S."""
    if "exp" not in claims:
        raise RefusedTokenError(Reason.CLAIM_MISSING, "exp")
    expires = _time(claims, "exp")
    begins = max((_time(claims, name) for name in ("nbf", "iat") if name in claims), default=-math.inf)
    if now >= expires + LEEWAY_S:
        raise RefusedTokenError(Reason.EXPIRED)
    if now < begins - LEEWAY_S:
        raise RefusedTokenError(Reason.NOT_YET_VALID)
    if begins > expires or expires - now > MAX_LIFETIME_S:
        raise RefusedTokenError(Reason.LIFETIME)
    return expires + LEEWAY_S


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse_claim(name)
    return float(min(max(value, -_FAR_S), _FAR_S))  # a number of 4,000 digits is no float


def _check_audience(claims: Mapping[str, Any], expected: Expected) -> None:
    if "aud" not in claims:
        raise RefusedTokenError(Reason.CLAIM_MISSING, "aud")
    value = claims["aud"]
    audiences = [value] if isinstance(value, str) else value
    if not isinstance(audiences, list) or not 0 < len(audiences) <= _MAX_AUDIENCES:
        _refuse_claim("aud")
    if not all(isinstance(each, str) for each in audiences):
        _refuse_claim("aud")
    if not expected.foreign_audiences.isdisjoint(audiences):
        raise RefusedTokenError(
            Reason.API_SERVER_AUDIENCE,
            "the token is for the Kubernetes API server, where whoever sees it could use it; send a projected token "
            f"whose audience is {expected.audience!r} alone",
        )
    if expected.audience not in audiences:
        raise RefusedTokenError(Reason.AUDIENCE, f"the token is not for {expected.audience!r}")


def _service_account(claims: Mapping[str, Any], subject: str, expires: float) -> ServiceAccount:
    """Return the ServiceAccount, which `sub` and `kubernetes.io` must both name."""
    bound = claims.get(_KUBERNETES)
    account = bound.get("serviceaccount") if isinstance(bound, dict) else None
    if not isinstance(bound, dict) or not isinstance(account, dict):
        raise RefusedTokenError(Reason.SUBJECT, f"{_KUBERNETES} names no ServiceAccount")
    namespace, name = bound.get("namespace"), account.get("name")
    if not (_is_name(namespace, _LABEL, _MAX_LABEL) and _is_name(name, _SUBDOMAIN, _MAX_SUBDOMAIN)):
        raise RefusedTokenError(Reason.SUBJECT, f"{_KUBERNETES} names no ServiceAccount")
    if subject != f"system:serviceaccount:{namespace}:{name}":
        raise RefusedTokenError(Reason.SUBJECT, f"sub and {_KUBERNETES} name two subjects")
    pod = bound.get("pod")
    pod_name = None
    if pod is not None:
        pod_name = pod.get("name") if isinstance(pod, dict) else None
        if not _is_name(pod_name, _SUBDOMAIN, _MAX_SUBDOMAIN):
            raise RefusedTokenError(Reason.SUBJECT, f"{_KUBERNETES} names no pod")
    return ServiceAccount(str(namespace), str(name), pod_name, expires)


def _is_name(value: object, form: re.Pattern[str], longest: int) -> bool:
    return isinstance(value, str) and len(value) <= longest and form.match(value) is not None


def _text(claims: Mapping[str, Any], name: str, longest: int = MAX_TEXT) -> str:
    if name not in claims:
        raise RefusedTokenError(Reason.CLAIM_MISSING, name)
    value = claims[name]
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        _refuse_claim(name)
    return value


def _refuse_claim(name: str) -> NoReturn:
    raise RefusedTokenError(Reason.CLAIM_INVALID, name)
