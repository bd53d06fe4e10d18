"""Why a JWT is refused. Audit lines alone show it: the client is answered as for any wrong secret."""

import enum


class Reason(enum.StrEnum):
    """The stable codes of the reasons."""

    TOO_LONG = "jwt-too-long"
    MALFORMED = "jwt-malformed"
    """Not three parts of base64url, or not the JSON of two objects."""
    DUPLICATE_NAME = "jwt-duplicate-name"
    """A name that stands twice in one object: two readers could read two tokens."""
    ENCRYPTED = "jwt-encrypted"
    NESTED = "jwt-nested"
    ALGORITHM = "jwt-algorithm"
    """`none`, one with a shared secret, or another that is not allowed."""
    HEADER = "jwt-header"
    """A header that brings a key or its address, asks for an extension, or says that this is another kind of token."""
    NO_KEY_ID = "jwt-no-key-id"
    ISSUER = "jwt-issuer"
    CLAIM_MISSING = "jwt-claim-missing"
    CLAIM_INVALID = "jwt-claim-invalid"
    EXPIRED = "jwt-expired"
    NOT_YET_VALID = "jwt-not-yet-valid"
    LIFETIME = "jwt-lifetime"
    """It is valid for too long, or ends before it begins."""
    AUDIENCE = "jwt-audience"
    API_SERVER_AUDIENCE = "jwt-audience-of-api-server"
    SUBJECT = "jwt-subject"
    """`sub` and `kubernetes.io` name no ServiceAccount, or two."""
    KEY = "jwt-key"
    """The issuer has no such key, or the algorithm is not the key's."""
    SIGNATURE = "jwt-signature"
    REVIEW = "jwt-token-review"
    """The API server does not know the token, or says that it is somebody else's."""


class RefusedTokenError(Exception):
    """A token that proves nothing. Its text is the reason's code, and a sentence where the code does not say enough."""

    def __init__(self, reason: Reason, why: str = "") -> None:
        """`why` must hold nothing of the token."""
        super().__init__(f"{reason}: {why}" if why else str(reason))
        self.reason = reason
