"""Which files a lock file's pins mean, for the chosen platforms: as the lock names them, or as a page lists them."""

from collections.abc import Sequence

import msgspec

from pywharf.core.filenames import names_stored_file, version_of
from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.lock_files.pins import Lock, LockedFile, Pin
from pywharf.lock_files.platforms import Target

MAX_FILES = 100_000
_HEX = frozenset("0123456789abcdef")
_SHA256_LENGTH = 64
_SHOWN = 100


class WantedFile(msgspec.Struct, frozen=True, order=True):
    """A file of an index."""

    project: ProjectName
    filename: str
    sha256: str


class Wanted(msgspec.Struct, frozen=True):
    """What locks want."""

    files: tuple[WantedFile, ...] = ()
    """Those that the locks name in full."""
    open: tuple[Pin, ...] = ()
    """The pins whose files a page has to name."""
    problems: tuple[str, ...] = ()
    """What cannot be what an index gives, a sentence for each."""
    notes: tuple[str, ...] = ()


class Resolved(msgspec.Struct, frozen=True):
    """The files that a page names for a pin."""

    files: tuple[WantedFile, ...] = ()
    problem: str | None = None
    note: str | None = None


def wanted_of(locks: Sequence[Lock], target: Target) -> Wanted:
    """Return what the locks want for the target. Each file and each pin stands there once."""
    files: dict[WantedFile, None] = {}
    by_page: dict[Pin, None] = {}
    problems: list[str] = []
    notes: list[str] = []
    for lock in locks:
        notes += [note.sentence("prefetched") for note in lock.notes]
        for pin in lock.pins:
            if pin.direct:
                continue
            fitting = [file for file in pin.files if file.filename is None or target.fits(file.filename)]
            if pin.files and not fitting:
                notes.append(f"no file of {pin.project} {pin.version} is for the chosen platforms")
                continue
            if not fitting or not all(_is_named(file) for file in fitting):
                by_page[msgspec.structs.replace(pin, files=tuple(fitting), index=None)] = None
                continue
            for file in fitting:
                problem = _problem(pin, file)
                if problem is not None:
                    problems.append(problem)
                else:
                    files[WantedFile(pin.project, file.filename or "", file.sha256 or "")] = None
    if not any(lock.pins for lock in locks):
        problems.append("the locks pin nothing that comes from an index")
    if len(files) > MAX_FILES:
        problems.append(f"the locks name {len(files)} files; {MAX_FILES} are prefetched at most")
    return Wanted(tuple(sorted(files)[:MAX_FILES]), tuple(by_page), tuple(problems), tuple(notes))


def resolve(pin: Pin, page: Sequence[File], target: Target) -> Resolved:
    """Return the files of a page that a pin means: by digest, otherwise by name, otherwise those of its version."""
    usable = [file for file in page if file.sha256 and names_stored_file(file.filename)]
    if not pin.files:
        found = [file for file in usable if version_of(file.filename, pin.project) == pin.version]
        missing = 0 if found else 1
    else:
        by_digest = {file.sha256: file for file in usable}
        by_name = {file.filename: file for file in usable}
        matched = [
            by_digest.get(file.sha256) if file.sha256 is not None else by_name.get(file.filename or "")
            for file in pin.files
        ]
        found = [file for file in matched if file is not None]
        missing = len(matched) - len(found)
    fitting = tuple(WantedFile(pin.project, file.filename, file.sha256) for file in found if target.fits(file.filename))
    release = f"{pin.project} {pin.version}"
    if not found:
        return Resolved(problem=f"the repo shows no file of {release} that the lock means")
    if missing:
        # Without a name nobody can tell whether a missing file would have been for the chosen platforms.
        sentence = f"the repo does not show {missing} of {len(found) + missing} files of {release} that the lock names"
        return Resolved(fitting, None, sentence) if _is_choice(target) else Resolved(fitting, sentence)
    if not fitting:
        return Resolved(note=f"no file of {release} is for the chosen platforms")
    return Resolved(fitting)


def _is_choice(target: Target) -> bool:
    return bool(target.platforms) or target.pythons is not None


def _is_named(file: LockedFile) -> bool:
    return file.filename is not None and file.sha256 is not None


def _problem(pin: Pin, file: LockedFile) -> str | None:
    filename, digest = file.filename or "", file.sha256 or ""
    if not names_stored_file(filename):
        return f"{filename[:_SHOWN]!r} of {pin.project} {pin.version} is not the name of a distribution"
    if len(digest) != _SHA256_LENGTH or not _HEX.issuperset(digest):
        return f"the digest of {filename[:_SHOWN]!r} is not a SHA-256"
    return None
