"""Representations that no log or traceback learns a secret from."""

import re

import msgspec

_MAY_BE_SECRET = re.compile(r"secret|key|raw|password|token|\Aconfig\Z")
"""Names of fields; `config` may be a text with secrets in it."""


def without_secrets(struct: msgspec.Struct) -> str:
    """A struct's representation in which whatever may be a secret is left out, so that no log or traceback holds it."""
    shown = (
        f"{field}={'...' if _MAY_BE_SECRET.search(field) and value is not None else repr(value)}"
        for field, value in zip(struct.__struct_fields__, msgspec.structs.astuple(struct), strict=True)
    )
    return f"{type(struct).__name__}({', '.join(shown)})"
