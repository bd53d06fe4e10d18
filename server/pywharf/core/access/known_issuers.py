"""The OIDC issuers that a configuration may name without a URL, by the names that access entries use."""

from collections.abc import Mapping
from typing import Final

KNOWN_ISSUERS: Final[Mapping[str, str]] = {
    "github": "https://token.actions.githubusercontent.com",
    "gitlab": "https://gitlab.com",
}
"""The `iss` of their tokens, by name."""
