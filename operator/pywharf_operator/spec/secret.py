"""Secret (core/v1), as far as credentials are read from it."""

import base64
import binascii
from typing import Any

from pywharf_operator.spec.metadata import Resource

CREDENTIALS_LABEL = "pywharf.dev/credentials"


class Secret(Resource, frozen=True, kw_only=True):
    """A Secret. No message and no `repr` shows a value."""

    type: str | None = None
    immutable: bool | None = None
    data: dict[str, Any] | None = None
    """Base64."""
    string_data: dict[str, Any] | None = None
    """Plain text; wins over `data`, as in the API server."""

    def __post_init__(self) -> None:
        """Raise TypeError where a value is no text, ValueError where it is no base64; the value is not shown."""
        super().__post_init__()
        for field, values in (("stringData", self.string_data), ("data", self.data)):
            for key, value in (values or {}).items():
                if not isinstance(value, str):
                    raise TypeError(f"{field}.{key} must be a text; put its value in quotes")
        for key, value in (self.data or {}).items():
            if _decoded(value) is None:
                raise ValueError(f"data.{key} is not base64; encode it, or write it as plain text under stringData")

    def __repr__(self) -> str:
        """Nothing of the values."""
        return f"Secret({self.key})"

    @property
    def labelled(self) -> bool:
        """Whether its owner lets pywharf use it."""
        return (self.metadata.labels or {}).get(CREDENTIALS_LABEL) == "true"

    def value(self, key: str) -> bytes | None:
        """One value, None where there is no such key."""
        if key in (self.string_data or {}):
            return str((self.string_data or {})[key]).encode("utf-8", "surrogatepass")
        encoded = (self.data or {}).get(key)
        return None if encoded is None else _decoded(encoded)

    def keys(self) -> tuple[str, ...]:
        """The names of the values, sorted."""
        return tuple(sorted({*(self.data or {}), *(self.string_data or {})}))


def _decoded(encoded: str) -> bytes | None:
    try:
        # Line breaks are allowed, as in Go's decoder.
        return base64.b64decode(encoded.replace("\n", "").replace("\r", ""), validate=True)
    except (binascii.Error, ValueError):
        return None
