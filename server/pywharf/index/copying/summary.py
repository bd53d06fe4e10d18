"""The result of a copy."""

import msgspec

_MAX_SENTENCES = 1_000
"""Problems and notes that are kept of one run, each; further ones are counted."""


class CopySummary(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run."""

    projects: int
    files: int
    """Files of the source that are distributions."""
    copied: int
    """Files that the target lacked and has now; in a dry run, those that it lacks."""
    bytes: int
    """Bytes of those; in a dry run, those whose size is known."""
    present: int
    """Files that the target had already."""
    unverified: int
    """Files whose content no digest of the source confirms: copied ones, and present ones compared by name alone."""
    changed: int
    """Changes of the state of files and projects that the target had."""
    ignored: int
    """Files of the source that are no distributions."""
    dry_run: bool
    notes: tuple[str, ...] = ()
    """Remarks on files that are copied all the same, a sentence each."""
    problems: tuple[str, ...] = ()
    """What is left out and why, a sentence each."""


class Sentences:
    """A bounded list of sentences."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._kept: list[str] = []
        self._more = 0

    def add(self, *sentences: str) -> None:
        """Add sentences, or count them past the limit."""
        for sentence in sentences:
            if len(self._kept) < _MAX_SENTENCES:
                self._kept.append(sentence)
            else:
                self._more += 1

    def all(self) -> tuple[str, ...]:
        """Return the sentences; the last one may say how many were not kept."""
        further = (f"Further {self._what}: {self._more}.",) if self._more else ()
        return (*self._kept, *further)
