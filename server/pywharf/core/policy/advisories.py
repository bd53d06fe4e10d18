"""What policies ask of a feed of advisories."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from pywharf.core.names import ProjectName


class Advisory(msgspec.Struct, frozen=True, gc=False):
    """One advisory that concerns a file."""

    id: str
    """For example `MAL-2026-1234`."""
    is_malware: bool
    """Whether it reports malware; only such an advisory withholds files."""


class Advisories(Protocol):
    """The advisories that a server knows at one moment. Its answers never change: a newer feed is another object."""

    @property
    def revision(self) -> str:
        """Identify the content: another revision may give other answers."""

    def concerns(self, project: ProjectName) -> bool:
        """Return whether any advisory is about the project. It must be cheap: a root page asks it for each project."""

    def matching(self, project: ProjectName, version: str | None) -> Sequence[Advisory]:
        """Return the advisories about a version, in any order. None, an unreadable version: those about every version.

        `version` is in the normal form of PEP 440.
        """
