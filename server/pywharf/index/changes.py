"""Change what is published: resolve a request to files, then have the storage change each of them.

A release (a version) is changed file by file. If one fails, the error says which are changed; the same request again
completes the rest.
"""

from collections.abc import Sequence

import msgspec
from packaging.version import InvalidVersion, Version

from pywharf.core.errors import ChangeIncompleteError, InvalidInputError, NotFoundError, PywharfError, TooLargeError
from pywharf.core.filenames import MAX_VERSION, may_be_stored, version_of
from pywharf.core.model import STATUSES, Project
from pywharf.core.names import ProjectName
from pywharf.index.follower import Follower
from pywharf.index.limits import MAX_RELEASE_FILES, MAX_TEXT
from pywharf.index.ports import Action, Change, Delete, Packages, SetStatus, SetYanked
from pywharf.index.threads import within

_CALL_S = 120.0
"""Seconds for the change of one file."""
_NO_REASON = "true"
"""A record cannot tell this reason from none (see `pywharf.index.sidecars`)."""
_SHOWN = 240


class OfFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which files to change: one file, or all files of a release."""

    filename: str | None = None
    version: str | None = None


class YankRequest(OfFiles, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Yank a file or a release (PEP 592). Another reason replaces the earlier one."""

    reason: str = ""


class UnyankRequest(OfFiles, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Unyank a file or a release."""


class DeleteRequest(OfFiles, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Delete a file or a release."""


class FreeingDeleteRequest(DeleteRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Delete a file or a release, and perhaps free its names. Only for administrators."""

    free_name: bool = False


class StatusRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Set a project's status (PEP 792)."""

    status: str
    reason: str | None = None


Request = YankRequest | UnyankRequest | DeleteRequest | StatusRequest


class Changed(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a request changed, or found changed already."""

    project: ProjectName
    files: tuple[str, ...] = ()
    status: str | None = None
    """The project's status; None if the request was about files."""


async def change(
    packages: Packages, follower: Follower, name: ProjectName, request: Request, *, secret: str | None = None
) -> Changed:
    """Change a project or its files durably, and show the change.

    Parameters:
        packages: The storage.
        follower: What is known of it. It shows each change immediately.
        name: The project's name.
        request: What to change.
        secret: The client's own secret, if the storage itself let the client in.

    Raises:
        InvalidInputError: The request names no file, or its reason or version cannot be used.
        NotFoundError: The project, the file or the release does not exist.
        TooLargeError: The release has too many files.
        ChangeIncompleteError: Some files are changed, then one failed.
    """
    known = (await follower.latest()).project(name)
    found = known
    by_version = isinstance(request, OfFiles) and request.version is not None
    if by_version:
        # Another server may have accepted a file of the release a moment ago.
        async with within(_CALL_S):
            stored = await packages.find_project(name)
        if stored is not None:
            found = (known or Project(name=name)).with_changes(stored.files)
    wanted = [Change(name, action, secret, known) for action in actions_of(request, name, found)]
    done = await _apply(packages, follower, wanted, skip_missing=by_version)
    if isinstance(request, StatusRequest):
        return Changed(project=name, status=request.status)
    if not done:
        raise _no_release(name, request.version or "")
    return Changed(project=name, files=tuple(done))


async def _apply(
    packages: Packages, follower: Follower, changes: Sequence[Change], *, skip_missing: bool
) -> Sequence[str]:
    """Apply and show each change. Return the names of the changed files.

    `skip_missing`: a file may be missing, because somebody else has just deleted it.
    """
    done: list[str] = []
    for one in changes:
        try:
            async with within(_CALL_S):
                entry = await packages.change(one)
        except PywharfError as error:
            if isinstance(error, NotFoundError) and skip_missing:
                continue
            if not done:
                raise
            raise ChangeIncompleteError(error, tuple(done)) from error
        await follower.note(entry)
        if entry.changed is not None:
            done.append(entry.changed.filename)
    return done


def actions_of(request: Request, name: ProjectName, project: Project | None) -> Sequence[Action]:
    """Return the actions for a request, in the order of the files. Pure; raises as `change` does."""
    match request:
        case StatusRequest():
            if request.status not in STATUSES:
                raise InvalidInputError(f"status is {request.status[:80]!r}; it must be one of {', '.join(STATUSES)}.")
            return (SetStatus(request.status, _checked_reason(request.reason) or None),)
        case YankRequest():
            reason = _checked_reason(request.reason)
            return [SetYanked(filename, reason) for filename in _selected(request, name, project)]
        case UnyankRequest():
            return [SetYanked(filename, None) for filename in _selected(request, name, project)]
        case DeleteRequest():
            is_free = isinstance(request, FreeingDeleteRequest) and request.free_name
            return [Delete(filename, is_free) for filename in _selected(request, name, project)]


def _selected(request: OfFiles, name: ProjectName, project: Project | None) -> Sequence[str]:
    if (request.filename is None) == (request.version is None):
        raise InvalidInputError("Give either the filename of one file, or the version of a whole release.")
    if request.filename is not None:
        if not may_be_stored(request.filename):
            raise NotFoundError(f"This repo has no file {request.filename[:_SHOWN]!r} of the project {name!r}.")
        return (request.filename,)
    version = _parsed(request.version or "")
    files = [f.filename for f in (project.files if project is not None else ()) if _is_of(f.filename, name, version)]
    if not files:
        raise _no_release(name, request.version or "")
    if len(files) > MAX_RELEASE_FILES:
        raise TooLargeError(
            f"The release has {len(files)} files; at most {MAX_RELEASE_FILES} are changed together. "
            "Change them one by one."
        )
    return files


def _parsed(raw: str) -> Version:
    try:
        if len(raw) <= MAX_VERSION:
            return Version(raw)
    except InvalidVersion:
        pass
    raise InvalidInputError(f"version is {raw[:80]!r}; it must be a version such as '1.0' (PEP 440).")


def _is_of(filename: str, name: ProjectName, version: Version) -> bool:
    found = version_of(filename, name)
    return found is not None and Version(found) == version


def _checked_reason(reason: str | None) -> str:
    """Return a reason that every page, record and terminal can show. Raises InvalidInputError."""
    reason = reason or ""
    if len(reason) > MAX_TEXT:
        raise InvalidInputError(f"reason has {len(reason)} characters; at most {MAX_TEXT} are allowed. Shorten it.")
    if not reason.isprintable():
        raise InvalidInputError("reason must be printable text on one line.")  # installers print it on terminals
    return "" if reason == _NO_REASON else reason


def _no_release(name: ProjectName, version: str) -> NotFoundError:
    return NotFoundError(f"This repo has no file of version {version[:80]!r} of the project {name!r}.")
