"""Lay what policies say over a project: yanked files and the status."""

import math
from collections.abc import Sequence

from msgspec.structs import replace

from pywharf.core.model import File, Project
from pywharf.core.policy.compiled import ProjectRules
from pywharf.core.policy.selecting import FileRule, ProjectFiles

_STRICTNESS = {"active": 0, "deprecated": 1, "archived": 2, "quarantined": 3}


class Overlay:
    """Finds what policies change of the files and the status, as of one moment."""

    def __init__(self, policies: Sequence[ProjectRules], now: float) -> None:
        self._policies = policies
        self._now = now
        self.next_change = math.inf
        """Unix seconds when the first exception ends that holds now; infinity: none does."""

    def yanked(self, project: Project, files: ProjectFiles) -> dict[int, File]:
        """Return the yanked files by their position. Those that the storage yanked keep its reason."""
        reasons: dict[int, tuple[bool, str, str]] = {}
        for rules in self._policies:
            exceptions = files.concerned(rules.exceptions("Yank"))
            for position, yank in files.concerned(rules.of_files("Yank")).items():
                if project.files[position].yanked is None and not self._holds(exceptions.get(position)):
                    reason = (not yank.reason, rules.policy, yank.reason)
                    reasons[position] = min(reason, reasons.get(position, reason))
        return {
            position: replace(project.files[position], yanked=reason) for position, (_, _, reason) in reasons.items()
        }

    def with_status(self, project: Project) -> Project:
        """Return the project with the strictest status of the storage and the policies."""
        own = _STRICTNESS.get(project.status, 0)
        found = [
            (-_STRICTNESS[status.status], not status.reason, rules.policy, status.reason, status.status)
            for rules in self._policies
            for status in rules.statuses
            if _STRICTNESS[status.status] > own and not self._holds(rules.exception_to_status())
        ]
        if not found:
            return project
        *_, reason, status = min(found)
        return replace(project, status=status, status_reason=reason or None)

    def _holds(self, exception: FileRule | None) -> bool:
        """Return whether an exception holds now, and remember the earliest end."""
        until = -math.inf if exception is None else exception.until
        if until > self._now:
            self.next_change = min(self.next_change, until)
        return until > self._now
