"""Representations of structs without their secrets, for logs and tracebacks."""

import re

import msgspec

_MAY_BE_SECRET = re.compile(r"secret|key|raw|password|token|\Aconfig\Z")
"""Names of fields that may hold a secret; `config` may be a text with secrets in it."""


def without_secrets(struct: msgspec.Struct) -> str:
    """Return a struct's representation without possible secrets, so that no log or traceback holds them."""
    shown = (
        f"{field}={'...' if _MAY_BE_SECRET.search(field) and value is not None else repr(value)}"
        for field, value in zip(struct.__struct_fields__, msgspec.structs.astuple(struct), strict=True)
    )
    return f"{type(struct).__name__}({', '.join(shown)})"


class Redacted(msgspec.Struct, frozen=True):
    """A struct whose representation hides the secrets."""

    def __repr__(self) -> str:
        """Return the fields without possible secrets."""
        return without_secrets(self)
