"""Plan what to copy of one project: what the target lacks, which state differs, and what cannot be copied. Pure."""

from collections.abc import Iterable, Mapping

import msgspec

from pywharf.core.duplicates import identity
from pywharf.core.filenames import extension_of, may_be_stored, names_stored_file
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.index.copying.source import SourceProject
from pywharf.index.limits import MAX_PROJECT_FILES
from pywharf.index.ports import Reserve, ScannedProject, SetStatus, SetYanked

_NOTHING = ScannedProject(None)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done for one project."""

    project: ProjectName
    known: Project | None
    """The project as the target holds it."""
    copies: tuple[File, ...] = ()
    """Files that the target lacks, as the source describes them."""
    yanks: tuple[SetYanked, ...] = ()
    status: SetStatus | None = None
    reserves: tuple[Reserve, ...] = ()
    """Names that the source deleted and keeps taken."""
    present: int = 0
    """Files that the target has already, with the same digest."""
    unverified: int = 0
    """Files whose name the target has, and whose digest the source does not give."""
    problems: tuple[str, ...] = ()
    """What is left out and why, a sentence each."""
    notes: tuple[str, ...] = ()
    """What else somebody should know, a sentence each."""


def plan_project(source: SourceProject, held: ScannedProject | None, *, is_repo: bool, max_file_bytes: int) -> Plan:
    """Compare a project of the source with what the target holds of it.

    `is_repo` says that the source's state is complete: then the target's becomes the same. Otherwise a file that the
    source does not yank, or a project that it calls active, keeps the target's state.
    """
    project = source.project
    assert project is not None  # noqa: S101 - the caller reports problems of no project itself
    target = held or _NOTHING
    known = target.project
    sorted_out = _SortedOut(project.name, known, target.deleted, max_file_bytes)
    for file in project.files:
        sorted_out.add(file)
    if not is_repo and known is not None and not known.takes_uploads:
        sorted_out.refuse(known.status)
    return Plan(
        project=project.name,
        known=known,
        copies=tuple(sorted_out.copies),
        yanks=tuple(_yanks(sorted_out.there, is_repo=is_repo)),
        status=_status(project, known, is_repo=is_repo),
        present=len(sorted_out.there),
        unverified=sorted_out.unverified,
        problems=(
            *sorted_out.problems,
            *(
                f"{project.name}/{name} was deleted at the source, but the target still has it; delete it there."
                for name in source.deleted
                if _has(known, name)
            ),
        ),
        reserves=tuple(Reserve(name) for name in source.deleted if sorted_out.may_be_taken(name)),
    )


class _SortedOut:
    """The files of one project, sorted into those to copy, those that are there, and those that cannot be copied."""

    def __init__(self, name: ProjectName, known: Project | None, deleted: Iterable[str], max_file_bytes: int) -> None:
        self.copies: list[File] = []
        self.there: list[tuple[File, File]] = []
        """Pairs of the source's record and the target's."""
        self.unverified = 0
        self.problems: list[str] = []
        self._name, self._known = name, known
        self._max_file_bytes = max_file_bytes
        self._deleted = frozenset(deleted)
        files = known.files if known is not None else ()
        self._room = MAX_PROJECT_FILES - len(files)
        self._taken: Mapping[str, str] = {
            identity(taken, name): taken for taken in (*self._deleted, *(f.filename for f in files))
        }

    def add(self, file: File) -> None:
        there = self._known.file(file.filename) if self._known is not None else None
        if there is not None and file.sha256 in {there.sha256, ""}:
            self.there.append((file, there))
            self.unverified += not file.sha256
        elif (fault := self._fault(file, there)) is not None:
            self.problems.append(f"{self._name}/{file.filename[:255]} is left out: {fault}")
        else:
            self.copies.append(file)

    def may_be_taken(self, deleted: str) -> bool:
        """Return whether a name that the source deleted is free at the target, in any spelling."""
        return names_stored_file(deleted) and identity(deleted, self._name) not in self._taken

    def refuse(self, status: str) -> None:
        """Leave out all new files, because the target's project takes none."""
        if self.copies:
            self.problems.append(
                f"{self._name} is {status} at the target and takes no files; {len(self.copies)} are left out."
            )
        self.copies.clear()

    def _fault(self, file: File, there: File | None) -> str | None:
        """Return why the file cannot be copied, as the rest of a sentence."""
        double = self._taken.get(identity(file.filename, self._name))
        fault = None
        if there is not None:
            fault = (
                f"the target has other bytes under this name (SHA-256 {there.sha256}; the source's is {file.sha256})."
            )
        elif not may_be_stored(file.filename) or extension_of(file.filename) is None:
            fault = "its name is no file name of a distribution."
        elif double is not None and double in self._deleted:
            fault = f"the target had {double}, which was deleted, and its name stays taken."
        elif double is not None:
            fault = f"it is the same distribution as {double}, which the target has."
        elif file.size is not None and file.size > self._max_file_bytes:
            fault = f"it has {file.size} bytes; the target takes at most {self._max_file_bytes} (max_file_bytes)."
        elif len(self.copies) >= self._room:
            fault = f"a project may have at most {MAX_PROJECT_FILES} files."
        return fault


def _has(project: Project | None, filename: str) -> bool:
    return project is not None and project.file(filename) is not None


def _yanks(pairs: Iterable[tuple[File, File]], *, is_repo: bool) -> Iterable[SetYanked]:
    for file, there in pairs:
        if file.yanked == there.yanked:
            continue
        if is_repo or there.yanked is None:
            yield SetYanked(file.filename, file.yanked)


def _status(project: Project, known: Project | None, *, is_repo: bool) -> SetStatus | None:
    """Return the status to set, or None if the target has it, or will have it by default."""
    current = (known.status, known.status_reason) if known is not None else ("active", None)
    wanted = (project.status, project.status_reason)
    if wanted == current or (not is_repo and (project.status == "active" or current[0] != "active")):
        return None
    return SetStatus(*wanted)
