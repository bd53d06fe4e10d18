"""The reader of the cluster's issuer and public keys, by which servers verify tokens of ServiceAccounts.

The API server shows both to every ServiceAccount (ClusterRole system:service-account-issuer-discovery), unless somebody
took that right away. They are read again and again, but only while a server needs them: a control plane that changes
its key signs with the new one immediately. See docs/decisions/0040-identity-in-the-operator.md.
"""

import asyncio
import base64
import binascii
import logging
import random
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import msgspec

from pywharf.core.access.identity_document import MAX_JWKS_BYTES, Cluster
from pywharf.core.access.jwt_keys import MAX_KEYS, BadKeysError, read_keys
from pywharf.core.errors import InvalidConfigError
from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.render import Finding
from pywharf_operator.render.resolve.snapshot import ClusterKeys
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.faults import error_location

_logger = logging.getLogger(__name__)
DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
KEYS_PATH: Final = "/openid/v1/jwks"
"""The API server's own path. The discovery's `jwks_uri` may lead to a host outside the cluster."""
PERIOD_S: Final = 10.0
"""Seconds between two reads; chance adds up to a quarter."""
_JITTER: Final = 0.25
TIMEOUT_S: Final = 5.0
"""Longest seconds for which a reconcile waits for a first read, and for which a read may last."""
FAILURES: Final = 6
"""Consecutive reads that must fail before it is reported, once a read has succeeded."""
OTHER_FAULTS: Final = 6
"""Consecutive reads that must fail in another way than was reported before the reason changes."""
ABSENCES: Final = 6
"""Consecutive reads without a key before it is dropped: while API servers restart one by one, not all know each key."""
_REFUSED: Final = {401, 403}
_MEMBERS: Final = ("alg", "crv", "e", "kid", "kty", "n", "use", "x", "y")
"""The members of a public key that verifying needs (RFC 7518)."""
_MOST_AUDIENCES: Final = 16
_MOST_TEXT: Final = 2048
_MOST_TOKEN: Final = 16 * 1024


class IssuerReader:
    """Follows the cluster's issuer and keys while servers need them. `changed` is called with those servers."""

    def __init__(
        self,
        kube: Kube,
        changed: Callable[[ObjectKey], None] = lambda _server: None,
        *,
        period_s: float = PERIOD_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._kube = kube
        self._changed = changed
        self._period_s = period_s
        self._timeout_s = timeout_s
        self._needed_by: set[ObjectKey] = set()
        self._lock = asyncio.Lock()
        self._keys = ClusterKeys()
        self._has_read = False
        """Whether a read has ended, well or badly."""
        self._failures = 0
        self._other_faults = 0
        """Consecutive reads that failed in another way than was reported."""
        self._absences: dict[str, int] = {}
        """How many reads have lacked a key since it was there, by kid."""

    async def keys(self, server: ObjectKey) -> ClusterKeys:
        """Return the issuer and keys, and follow them from now on for the server.

        Only the first read is waited for, and all who need it share it; `run` does the others.
        """
        self._needed_by.add(server)
        if not self._has_read:
            async with self._lock:
                if not self._has_read:
                    await self._read()
        return self._keys

    def forget(self, server: ObjectKey) -> None:
        """Follow them no longer for this server."""
        self._needed_by.discard(server)

    def forget_gone(self, existing: Collection[ObjectKey]) -> None:
        """Follow them no longer for servers that are gone."""
        self._needed_by &= set(existing)

    async def run(self) -> None:
        """Read again and again until cancelled."""
        while True:
            await asyncio.sleep(self._period_s * (1 + _JITTER * random.random()))  # noqa: S311 - to spread requests
            try:
                await self.follow()
            except Exception as error:  # noqa: BLE001 - the operator goes on, and the keys that servers have stay
                _logger.warning("The cluster's issuer and keys cannot be read: %s", error_location(error))

    async def follow(self) -> None:
        """Read once more if a server needs it, and report a change. Forget what was read if none does."""
        async with self._lock:
            if not self._needed_by:
                self._keys, self._has_read, self._absences = ClusterKeys(), False, {}
                self._failures = self._other_faults = 0
                return
            before = self._keys
            await self._read()
        if self._keys != before:
            for server in sorted(self._needed_by):
                self._changed(server)

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                issuer = _issuer(await self._kube.document(DISCOVERY_PATH, MAX_JWKS_BYTES))
                read = _keys(await self._kube.document(KEYS_PATH, MAX_JWKS_BYTES))
        except TimeoutError:
            fault = f"the API server did not answer within {self._timeout_s:g} seconds"
            await self._note_failure(KubeError(None, "Unreachable", fault))
        except KubeError as error:
            await self._note_failure(error)
        else:
            await self._note(issuer, read)
        self._has_read = True

    async def _note(self, issuer: str, read: Mapping[str, Json]) -> None:
        # Without a token that can be read now, the audiences are those of before.
        own = await self._own_claims() or self._keys.found
        keys = self._followed(read)
        self._failures = self._other_faults = 0
        audiences = own.audiences if own is not None and own.issuer == issuer else ()
        jwks = {"keys": [keys[kid] for kid in sorted(keys)]}
        found = Cluster(issuer=issuer, jwks=jwks, audiences=audiences)
        before, self._keys = self._keys, ClusterKeys(found)
        if before.fault is not None:
            _logger.info("The cluster's keys can be read again.")
        if before.found is not None and before.found.jwks and before.found != found:
            _logger.info("The cluster's issuer or keys have changed: %s", ", ".join(sorted(keys)))

    async def _note_failure(self, error: KubeError) -> None:
        self._failures += 1
        known = self._keys.found
        if known is not None and known.jwks and self._failures < FAILURES:
            return
        fault, before = _fault(error), self._keys.fault
        if before is None:
            _logger.warning("The cluster's issuer and keys cannot be read: %s", error)
        else:
            # Other words for a fault, and faults by turns, would be a change of each status.
            self._other_faults = 0 if before.reason == fault.reason else self._other_faults + 1
            if self._other_faults < OTHER_FAULTS:
                fault = before
            else:
                self._other_faults = 0
        if known is None:
            # The operator's own token names the issuer, which is all that TokenReview needs.
            known = await self._own_claims()
        self._keys = ClusterKeys(known, fault)

    def _followed(self, read: Mapping[str, Json]) -> dict[str, Json]:
        """Return the keys that were read, and those that were known and have been absent from a few reads only."""
        known = self._keys.found
        before = {} if known is None else {key["kid"]: key for key in known.jwks.get("keys", ())}
        self._absences = {kid: self._absences.get(kid, 0) + 1 for kid in before.keys() - read.keys()}
        stay = {kid: before[kid] for kid, count in self._absences.items() if count < ABSENCES}
        return {**dict(list(stay.items())[: max(0, MAX_KEYS - len(read))]), **read}

    async def _own_claims(self) -> Cluster | None:
        """Return the issuer and the audiences of the operator's own token, which are the API server's; None if unknown.

        It is not verified: the API server accepts it.
        """
        try:
            claims = _claims(await self._kube.token())
        except OSError:  # its file is being replaced
            return None
        issuer, audiences = claims.get("iss"), claims.get("aud")
        if not isinstance(issuer, str) or not issuer.startswith("https://") or len(issuer) > _MOST_TEXT:
            return None
        listed = audiences if isinstance(audiences, list) else [audiences]
        texts = [one for one in listed if isinstance(one, str) and 0 < len(one) <= _MOST_TEXT]
        return Cluster(issuer=issuer, jwks={}, audiences=tuple(sorted(texts)[:_MOST_AUDIENCES]))


def _issuer(document: Json) -> str:
    issuer = document.get("issuer")
    if not isinstance(issuer, str) or not 0 < len(issuer) <= _MOST_TEXT:
        raise KubeError(None, "Unreadable", f"{DISCOVERY_PATH} names no issuer")
    return issuer


def _keys(document: Json) -> dict[str, Json]:
    """Return the public keys by kid. Raises KubeError."""
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise KubeError(None, "Unreadable", f"{KEYS_PATH} has no list of at most {MAX_KEYS} keys")
    found = {
        one["kid"]: {name: one[name] for name in _MEMBERS if isinstance(one.get(name), str)}
        for one in listed
        if isinstance(one, dict) and _is_usable(one)
    }
    if not found:
        raise KubeError(None, "Unreadable", f"{KEYS_PATH} has no key that can be used")
    return found


def _is_usable(key: Json) -> bool:
    """Return whether a server can verify tokens with the key. One that it cannot use must not be delivered."""
    try:
        read_keys({"keys": [key]})
    except BadKeysError:
        return False
    except InvalidConfigError:  # the library that reads keys is not installed here; the server has it
        return isinstance(key.get("kid"), str)
    return True


def _claims(token: str) -> dict[str, Any]:
    """Return the claims of a token; none if it has no such form."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > _MOST_TOKEN:  # noqa: PLR2004 - header, claims and signature
        return {}
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _fault(error: KubeError) -> Finding:
    stays = "Keys that were read before stay in use."
    if error.status in _REFUSED:
        return Finding(
            status=False,
            reason="ClusterKeysForbidden",
            message=(
                f"The operator may not read the cluster's issuer and keys ({DISCOVERY_PATH} and {KEYS_PATH}: {error}). "
                "Kubernetes lets every ServiceAccount read them by the ClusterRole "
                "system:service-account-issuer-discovery; bind it to the operator's ServiceAccount again, or set "
                f"spec.identity.serviceAccounts to TokenReview or Off. {stays}"
            ),
        )
    return Finding(
        status=False,
        reason="ClusterKeysUnreadable",
        message=(
            f"The cluster's issuer and keys cannot be read from {DISCOVERY_PATH} and {KEYS_PATH}: {error}. Enable the "
            "API server's issuer discovery (--service-account-issuer must be an https URL), or set "
            f"spec.identity.serviceAccounts to Off. {stays}"
        ),
    )
