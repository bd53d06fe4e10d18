"""The OIDC issuers that a configuration may name without a URL, and the names that no issuer may have."""

from collections.abc import Mapping
from typing import Final

KNOWN_ISSUERS: Final[Mapping[str, str]] = {
    "github": "https://token.actions.githubusercontent.com",
    "gitlab": "https://gitlab.com",
}
"""The `iss` of their tokens, by name."""

RESERVED_NAMES: Final = frozenset({"system", "token", "user"})
"""The subjects of other kinds of identities begin so, and those of an issuer's tokens begin with the issuer's name."""
