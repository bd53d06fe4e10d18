"""What policies ask of a feed of advisories."""

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
        """Identify what is known about malware: another revision may give other answers."""

    def concerns_malware(self, project: ProjectName) -> bool:
        """Return whether any malware report is about the project.

        It must be cheap: a root page asks it for each project.
        """

    def malware_id(self, project: ProjectName, version: str | None) -> str | None:
        """Return the first malware report about a version, or None. It must be cheap: it is asked for each version.

        `version` is in the normal form of PEP 440. None, an unreadable version: a report about every version.
        """
