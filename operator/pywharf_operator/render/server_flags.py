"""What a server reads from its flags, and so only when it starts."""

import msgspec

from pywharf.settings import DEFAULT_EXTRA_INDEX_URL
from pywharf_operator.spec import PackageServer


class Flags(msgspec.Struct, frozen=True, kw_only=True):
    """The flags that follow from a PackageServer wherever it runs; fields are named as `ServerSettings` has them."""

    auth_read_expires: int
    auth_write_expires: int
    extra_index_url: str
    """Empty: none."""


def flags_of(server: PackageServer) -> Flags:
    """The flags that `server` stands for."""
    upstream = server.spec.upstream
    return Flags(
        auth_read_expires=server.spec.auth_read_expires,
        auth_write_expires=server.spec.auth_write_expires,
        extra_index_url=(upstream.url or DEFAULT_EXTRA_INDEX_URL) if upstream.mode == "Pages" else "",
    )
