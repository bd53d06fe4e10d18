"""Translate the store's errors: what is wrong, and what to do. Pure; nothing of a request's secrets is shown.

obstore reports a failed request as text: the method, the URL, the status and the store's answer. Only the status and
the store's error code are read from it.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from pywharf.core.errors import BackendUnavailableError, StorageFullError

_STATUS = re.compile(r"status code: (\d{3})|status: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z][A-Za-z0-9.]{0,60})</Code>|\"code\": ?\"([A-Za-z][A-Za-z0-9.]{0,60})\"")
_EXPECTED_REGION = re.compile(r"<Region>([a-z0-9-]{1,64})</Region>")
_READ = 20_000
"""Characters of a message that are read; a store's answer may be long."""

_KEYS = "put valid keys into the repo's secret"
_RIGHTS = "denies access; give the credentials the rights that docs/object-stores.md lists"
_REMEDIES: Final[Mapping[str, str]] = {
    "InvalidAccessKeyId": f"does not know the access key; {_KEYS}",
    "XAdminUserNotFound": f"does not know the access key; {_KEYS}",
    "SignatureDoesNotMatch": f"rejects the signature, so the secret key is wrong; {_KEYS}",
    "AuthenticationFailed": f"rejects the key or token; {_KEYS}",
    "InvalidAuthenticationInfo": f"rejects the key or token; {_KEYS}",
    "ExpiredToken": "says that the credentials have expired; put new ones into the repo's secret",
    "ExpiredTokenException": "says that the credentials have expired; put new ones into the repo's secret",
    "InvalidToken": "rejects the session token; put new credentials into the repo's secret",
    "TokenRefreshRequired": "says that the credentials have expired; put new ones into the repo's secret",
    "RequestTimeTooSkewed": "says that this machine's clock is wrong; set it",
    "AccessDenied": _RIGHTS,
    "AllAccessDisabled": "denies all access to the bucket; look at the account's state",
    "AuthorizationFailure": "denies access; look at the account's firewall and at the rights of the credentials",
    "AuthorizationPermissionMismatch": _RIGHTS,
    "InsufficientAccountPermissions": _RIGHTS,
    "AccountIsDisabled": "says that the account is disabled; enable it",
    "SlowDown": "asks for fewer requests (SlowDown); it is tried again",
    "ServerBusy": "asks for fewer requests (ServerBusy); it is tried again",
    "PermanentRedirect": "keeps the bucket in another region; set the repo's region",
    "IllegalLocationConstraintException": "keeps the bucket in another region; set the repo's region",
    "KMS.DisabledException": "cannot use the bucket's encryption key; enable it",
}
_MISSING_BUCKET = {"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "NoSuchContainer", "ContainerDisabled"}
_FULL = {"QuotaExceeded", "QuotaExceededError", "EntityTooLarge", "XMinioStorageFull", "InsufficientStorage"}
_BY_STATUS: Final[Mapping[int, str]] = {
    301: "keeps the bucket in another region, or the endpoint is not the store's; set the repo's region and endpoint",
    400: "rejects the request; check region, endpoint and credentials",
    401: f"rejects the credentials; {_KEYS}",
    403: "denies access; check the credentials and their rights (docs/object-stores.md)",
    429: "asks for fewer requests (429); it is tried again",
    503: "is busy or not available (503); it is tried again",
    501: "does not support a request that is needed; use another store",
}
_SLOW_S = 10
"""Seconds that a client should wait if the store asks for fewer requests."""
_SLOW = {"SlowDown", "ServerBusy", "TooManyRequests"}


class Reply(msgspec.Struct, frozen=True):
    """What an error's text says about the store's answer."""

    status: int | None
    """None: there was no answer."""
    code: str | None
    region: str | None = None

    @property
    def is_missing_bucket(self) -> bool:
        """Whether not the object but the whole bucket is missing."""
        return self.code in _MISSING_BUCKET

    @property
    def is_rejection(self) -> bool:
        """Whether the store rejects the credentials, however it says that."""
        return self.code in {"XAdminUserNotFound", "InvalidAccessKeyId"}


def reply_of(error: Exception) -> Reply:
    """Read an error's text."""
    text = str(error)[:_READ]
    status, code, region = _STATUS.search(text), _CODE.search(text), _EXPECTED_REGION.search(text)
    return Reply(
        int(status[1] or status[2]) if status else None,
        (code[1] or code[2]) if code else None,
        region[1] if region else None,
    )


def failure(error: Exception, bucket: str, owner: str = "repo") -> BackendUnavailableError | StorageFullError:
    """Return the error to raise for a failed request.

    `bucket` is a phrase such as `bucket 'wheels'`, `owner` the word for whose settings and secret they are.
    """
    reply = reply_of(error)
    if reply.code in _FULL or reply.status == 507:  # noqa: PLR2004 - RFC 4918, section 11.5
        return StorageFullError(f"The store of the {bucket} has no room left; free some, or raise its quota.")
    if reply.is_missing_bucket:
        return BackendUnavailableError(f"The {bucket} does not exist; create it, or correct the {owner}'s settings.")
    if reply.code == "AuthorizationHeaderMalformed" and reply.region:
        said = f"keeps the bucket in the region {reply.region}; set the repo's region to that"
    elif (known := _REMEDIES.get(reply.code or "") or _BY_STATUS.get(reply.status or 0)) is not None:
        said = known
    elif reply.status is not None:
        said = f"answered with the status {reply.status}{f' ({reply.code})' if reply.code else ''}; try again"
    else:
        said = _without_reply(str(error)[:_READ])
    made = BackendUnavailableError(f"The store of the {bucket} {said.replace('the repo', f'the {owner}')}.")
    if reply.code in _SLOW or reply.status in {429, 503}:
        made.retry_after_s = _SLOW_S
    return made


_NO_REPLY: Final = (
    (r"timed out|TimedOut", "did not answer in time; check it, and try again"),
    (r"dns error|failed to lookup", "has a host name that cannot be resolved; check the endpoint"),
    (
        r"[Cc]ertificate|UnknownIssuer",
        "has a certificate that is not trusted; set the repo's ca_bundle, or correct the endpoint",
    ),
    (r"BadScheme|URL scheme is not allowed", "leads to plain HTTP, which the repo does not allow"),
    (r"kind: Connect|Connection refused", "cannot be connected to; check the endpoint and the network"),
    (r"private key|InvalidKey|PEM", "cannot be used with the private key of the repo's secret; put it there unchanged"),
    (r"[Mm]etadata|[Cc]redential", "cannot be used: the server got no credentials from its cloud; check its identity"),
)
"""Words of the HTTP client's errors, and what they mean. The first that matches counts."""


def _without_reply(text: str) -> str:
    return next(
        (said for pattern, said in _NO_REPLY if re.search(pattern, text)),
        "broke off the connection, or its answer cannot be read; check it, and try again",
    )
