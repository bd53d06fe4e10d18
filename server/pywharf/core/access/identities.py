"""What a client has proved about itself, before any repo is asked what that allows."""

from collections.abc import Mapping
from math import inf
from typing import Any

import msgspec

from pywharf.core.names import RepoName


class TokenHolder(msgspec.Struct, frozen=True):
    """The holder of a token whose digest an entry may name."""

    digest: str
    """`sha256:` and 64 hex digits."""

    @property
    def subject(self) -> str:
        """Return how audit and access log name the client."""
        return f"token:{self.digest[7:19]}"


class ServiceAccount(msgspec.Struct, frozen=True):
    """A pod that proved its ServiceAccount by a projected token."""

    namespace: str
    name: str
    pod: str | None = None
    expires: float = inf
    """Unix seconds from which the proof is worth nothing."""

    @property
    def subject(self) -> str:
        """Return how audit and access log name the client."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"


class Claims(msgspec.Struct, frozen=True):
    """The verified claims of an OIDC token."""

    issuer: str
    """The issuer's name in the server's configuration; `github` and `gitlab` are those known by name."""
    claims: Mapping[str, Any]
    expires: float

    @property
    def subject(self) -> str:
        """Return how audit and access log name the client."""
        return f"{self.issuer}:{self.claims.get('sub', '')}"[:512]


class Minted(msgspec.Struct, frozen=True):
    """The holder of a token that this server minted for trusted publishing."""

    jti: str
    entries: Mapping[RepoName, tuple[str, ...]]
    """Keys of the entries by which it was minted, by repo; one that was changed or removed since grants nothing."""
    subject: str
    """The subject of the claims by which it was minted."""
    expires: float


class ProxyUser(msgspec.Struct, frozen=True):
    """A person whom an authenticating proxy names."""

    user: str
    groups: tuple[str, ...]

    @property
    def subject(self) -> str:
        """Return how audit and access log name the client."""
        return f"user:{self.user}"


Identity = TokenHolder | ServiceAccount | Claims | Minted | ProxyUser


def without_end(identity: Identity) -> Identity:
    """Return the identity as if its proof never expired."""
    return msgspec.structs.replace(identity, expires=inf) if hasattr(identity, "expires") else identity
