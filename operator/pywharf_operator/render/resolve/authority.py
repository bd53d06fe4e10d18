"""The certificates of the authority that signed a server's own one, which clients must know."""

import re
from typing import Final

import msgspec

from pywharf_operator.render.resolve.findings import Finding, refused
from pywharf_operator.render.resolve.secret_refs import MAX_BYTES
from pywharf_operator.spec import ObjectKey

AUTHORITY_KEY: Final = "ca.crt"
"""The key of a TLS Secret. cert-manager writes it."""
_BLOCK: Final = re.compile(r"-----BEGIN CERTIFICATE-----\r?\n[A-Za-z0-9+/=\r\n]+-----END CERTIFICATE-----")


class Authority(msgspec.Struct, frozen=True):
    """What the TLS Secret says about the authority."""

    text: str = ""
    """PEM certificates; empty: the Secret has no usable ones."""
    fault: Finding | None = None
    """Why they are unusable, if the Secret has the key."""


def authority_of(server: ObjectKey, value: bytes | None) -> Authority:
    """Return the certificates in the value of `ca.crt`, and nothing else of it: a private key must not be published."""
    if value is None:
        return Authority()
    text = value.decode("ascii", "replace")
    blocks = _BLOCK.findall(text) if len(value) <= MAX_BYTES else []
    if not blocks:
        message = (
            f"The ConfigMap has no {AUTHORITY_KEY}: that of the TLS Secret of PackageServer {server} is not used. Let "
            f"it hold the authority's certificates in PEM, at most {MAX_BYTES} bytes."
        )
        return Authority(fault=refused("AuthorityInvalid", message))
    return Authority("".join(f"{block.replace(chr(13), '')}\n" for block in blocks))
