"""Decide what a repo's policies make of the releases that a lock file pins."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec
from msgspec.structs import replace

from pywharf.core.filenames import version_of
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.policy.evaluation import Verdict, Withheld
from pywharf.lock_files import Lock, LockedFile, Note, Pin
from pywharf_operator.local.policy.subject import Subject

LookUp = Callable[[Iterable[ProjectName]], Mapping[ProjectName, Project]]
"""Return the extra index's projects of these names, as far as it has them."""


class WithheldPin(msgspec.Struct, frozen=True):
    """A pinned release with files that are withheld."""

    project: ProjectName
    version: str
    files: tuple[Withheld, ...]


class Judgement(msgspec.Struct, frozen=True):
    """What policies make of a lock file."""

    pins: int
    withheld: tuple[WithheldPin, ...]
    notes: tuple[str, ...]
    undecided: bool = False
    """Whether a policy names digests that the lock file and the extra index do not give."""


def judge(lock: Lock, subject: Subject, now: float, look_up: LookUp | None) -> Judgement:
    """Evaluate every pin as if the extra index had it, unless its files or name are the repo's own.

    Without `look_up`, a file whose upload time the lock file lacks has none.
    """
    by_project: defaultdict[ProjectName, list[Pin]] = defaultdict(list)
    for pin in lock.pins:
        by_project[pin.project].append(pin)
    foreign = {name for name, pins in by_project.items() if any(_is_foreign(pin, subject) for pin in pins)}
    asked = {
        name
        for name in foreign
        if subject.policies.concerns(name, foreign=True, advisories=subject.advisories)
        and any(_lacks(pin, subject.needs_digest(name)) for pin in by_project[name])
    }
    known = look_up(asked) if look_up is not None and asked else {}
    notes = [_sentence(note) for note in lock.notes]
    withheld: list[WithheldPin] = []
    undecided = False
    for name in sorted(by_project):
        is_foreign = name in foreign
        if is_foreign and look_up is not None and name in asked and name not in known:
            is_foreign = False
            notes.append(f"{name!r} is not in the extra index, so it counts as the repo's own project")
        for pin in by_project[name]:
            files = _files(pin, known.get(name))
            pin_is_foreign = is_foreign and _is_foreign(pin, subject)
            if is_foreign and not pin_is_foreign and not pin.direct:
                notes.append(f"{name!r} {pin.version} counts as the repo's own: its files lie below the repo's URL")
            if subject.needs_digest(name) and not all(file.sha256 for file in files):
                undecided = True
                notes.append(
                    f"{name!r} {pin.version} has no digest, but a policy denies files of the project by theirs"
                )
            verdict = evaluate(subject, Project(name=name, files=files), now, foreign=pin_is_foreign)
            notes += _notes(pin, verdict, subject)
            if verdict.withheld:
                withheld.append(WithheldPin(name, pin.version, tuple(dict.fromkeys(verdict.withheld))))
    if not lock.pins:
        notes.append("the lock file has no pin that can be tested")
    return Judgement(len(lock.pins), tuple(withheld), tuple(notes), undecided)


def evaluate(subject: Subject, project: Project, now: float, *, foreign: bool) -> Verdict:
    """Evaluate a project, without first sights, which only a server has."""
    return subject.policies.evaluate(project, foreign=foreign, now=now, advisories=subject.advisories, first_seen=None)


def _sentence(note: Note) -> str:
    return f"{note.what!r} {note.why}, so only denials are tested" if note.is_direct_pin else note.sentence("tested")


def _notes(pin: Pin, verdict: Verdict, subject: Subject) -> Iterator[str]:
    """Yield what somebody should know of a pin besides the files that are withheld."""
    if any(file.yanked is not None for file in verdict.project.files):
        yield f"{pin.project!r} {pin.version} is shown as yanked"
    if subject.advisories is not None and not verdict.withheld:
        identifier = subject.advisories.malware_id(pin.project, pin.version)
        if identifier is not None:
            yield f"{pin.project!r} {pin.version} is reported as malware ({identifier}), and no policy withholds it"


def _is_foreign(pin: Pin, subject: Subject) -> bool:
    """Return whether a pin is of the extra index: not if the repo's own URL serves all of its files."""
    if pin.direct or not subject.may_be_upstream_s(pin.project):
        return False
    return not pin.files or not all(_serves(subject.repo, pin.index, file.url) for file in pin.files)


def _serves(repo: RepoName, index: str | None, url: str | None) -> bool:
    """Return whether the index has a repo's URL, and the file lies below it, as only a repo's own files do."""
    if index is None or url is None:
        return False
    folder = index.rstrip("/") + "/"
    return folder.endswith(f"/repo/{repo}/simple/") and url.startswith(folder)


def _lacks(pin: Pin, needs_digest: bool) -> bool:  # noqa: FBT001 - what is lacking
    return not pin.files or any(
        file.upload_time is None or (needs_digest and file.sha256 is None) for file in pin.files
    )


def _files(pin: Pin, known: Project | None) -> tuple[File, ...]:
    """Return the pin's files; what the lock file does not say of one comes from the extra index's page."""
    of_release = [
        file
        for file in (known.files if known is not None else ())
        if version_of(file.filename, pin.project) == pin.version
    ]
    if not pin.files and of_release:
        return tuple(of_release)
    by_digest = {file.sha256: file for file in of_release if file.sha256}
    by_name = {file.filename: file for file in of_release}
    made: list[File] = []
    for locked in pin.files or (LockedFile(),):
        known_file = by_digest.get(locked.sha256 or "") or by_name.get(locked.filename or "")
        file = _file(pin, locked, known_file)
        made.append(file)
        said = locked.filename
        if said is not None and version_of(said, pin.project) not in {None, pin.version}:
            made.append(replace(file, filename=said))  # an installer may go by the name
    return tuple(sorted(made, key=lambda file: file.filename))


def _file(pin: Pin, locked: LockedFile, known: File | None) -> File:
    """Return one file. Its version is the pin's, whatever its name says."""
    filename = locked.filename or (known.filename if known is not None else None)
    if filename is None or version_of(filename, pin.project) != pin.version:
        filename = f"{pin.project.replace('-', '_')}-{pin.version}.tar.gz"
    return File(
        filename=filename,
        sha256=locked.sha256 or (known.sha256 if known is not None else ""),
        upload_time=locked.upload_time or (known.upload_time if known is not None else None),
    )
