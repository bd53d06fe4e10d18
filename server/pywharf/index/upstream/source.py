"""One of the other indexes that a repo's names are looked up in."""

import msgspec

from pywharf.core.names import ProjectName
from pywharf.index.upstream.pages import matches


class SourceCredentials(msgspec.Struct, frozen=True):
    """What the server sends to the index, to its own origin alone (RFC 7617)."""

    username: str
    password: str

    def __repr__(self) -> str:
        """Return a text without the secret."""
        return "SourceCredentials(…)"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Another index, and the names that it may answer for."""

    url: str
    """Its Simple index."""
    projects: tuple[str, ...] = ()
    """Name patterns (`torch*`); empty: every name."""
    credentials: SourceCredentials | None = None

    def answers_for(self, name: ProjectName) -> bool:
        """Return whether the index may be asked for the name."""
        return not self.projects or matches(name, self.projects)

    @property
    def identity(self) -> "Identity":
        """What its pages depend on: another repo with the same may be given them, and no other."""
        return self.url, self.credentials


Identity = tuple[str, SourceCredentials | None]
