"""Publish an upload: check a staged file and its form, then hand them to the storage."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping

from pywharf.core.distribution import Distribution, read_distribution, record_of
from pywharf.core.errors import ForbiddenError, InvalidUploadError, TooLargeError
from pywharf.core.filenames import DistributionFilename, Kind
from pywharf.core.model import File, Project
from pywharf.index.follower import Follower
from pywharf.index.limits import MAX_PROJECT_FILES, fault_of
from pywharf.index.ports import JournalEntry, Packages, Upload
from pywharf.index.staging import StagedFile

CHECKED_FIELDS = frozenset(
    {
        ":action",
        "protocol_version",
        "filetype",
        "name",
        "version",
        "sha256_digest",
        "md5_digest",
        "blake2_256_digest",
    }
)
"""The fields of an upload's form that are checked against its file; others need not be kept."""
_KINDS = {"bdist_wheel": Kind.WHEEL, "sdist": Kind.SDIST}


async def publish(  # noqa: PLR0913 - what it is about, and where
    packages: Packages,
    follower: Follower,
    filename: DistributionFilename,
    form: Mapping[str, str],
    staged: StagedFile,
    *,
    secret: str | None = None,
    slot: contextlib.AbstractAsyncContextManager[None],
    with_status: Callable[[Project], Project] = lambda project: project,
) -> File:
    """Check everything that the form and the content claim, store the file and show it.

    `secret` is the client's own, if the storage itself let the client in. `slot` is held while the content is read;
    a hostile archive can occupy a thread for minutes. `with_status` returns a project with the status that counts.

    Publishing the same bytes again under the same name changes nothing, so a client may repeat an upload whose response
    was lost. Returns the record that the repo has.

    Raises InvalidUploadError or InvalidDistributionError with the reason, ForbiddenError if the project takes no
    uploads (PEP 792), TooLargeError if it has as many files as a page may list, FileExistsInRepoError. After an error
    nothing is kept.
    """
    check_form(form, filename)
    if staged.is_small:
        async with slot:
            sha256, read = await staged.in_thread(_check_small, form, staged, filename)
    else:
        sha256 = await staged.finish()
        async with slot:
            await _check_digests(form, staged, sha256)
            read = await asyncio.to_thread(_read, staged, filename)
    staged.notes = read.notes
    file = record_of(read, sha256=sha256, size=staged.size, uploaded_at=time.time())
    if (fault := fault_of(file)) is not None:
        raise TooLargeError(f"{file.filename!r} cannot be published: {fault}")
    project = (await follower.latest()).project(filename.project)
    judged = with_status(project if project is not None else Project(name=filename.project))
    if not judged.takes_uploads:
        reason = f": {judged.status_reason}" if judged.status_reason else "."
        raise ForbiddenError(f"The project {judged.name!r} is {judged.status} and takes no uploads{reason}")
    if project is not None and len(project.files) >= MAX_PROJECT_FILES and project.file(file.filename) is None:
        raise TooLargeError(
            f"The project {project.name!r} has {len(project.files)} files; at most {MAX_PROJECT_FILES} are allowed. "
            "Delete old ones, or publish under another name."
        )
    stored = await packages.publish(
        Upload(filename.project, file, staged.path, read.raw_metadata, secret, project, staged.discard)
    )
    await follower.note(JournalEntry(filename.project, stored))
    return stored


def check_form(form: Mapping[str, str], filename: DistributionFilename) -> None:
    """Check the form's fields against the file name. Raises InvalidUploadError naming the field and its value."""
    _expect(form, ":action", {"file_upload"})
    _expect(form, "protocol_version", {"1"})
    filetype = form.get("filetype")
    if filetype is not None and _KINDS.get(filetype) is not filename.kind:
        wanted = next(key for key, kind in _KINDS.items() if kind is filename.kind)
        raise InvalidUploadError(f"filetype is {filetype[:80]!r}; for {filename.filename!r} it must be {wanted!r}.")
    name, version = form.get("name"), form.get("version")
    if name is not None and not filename.has_project(name):
        raise InvalidUploadError(f"name is {name[:80]!r}; the file name says {filename.project!r}.")
    if version is not None and not filename.has_version(version):
        raise InvalidUploadError(f"version is {version[:80]!r}; the file name says {filename.version!r}.")


def _expect(form: Mapping[str, str], field: str, allowed: set[str]) -> None:
    value = form.get(field)
    if value is not None and value not in allowed:
        raise InvalidUploadError(f"{field} is {value[:80]!r}; this index understands {' or '.join(sorted(allowed))!r}.")


def _check_small(
    form: Mapping[str, str], staged: StagedFile, filename: DistributionFilename
) -> tuple[str, Distribution]:
    """Write and check a file in one call in a thread: each call costs a small file as much as reading it."""
    sha256 = staged.write_rest()
    _check_sha256(form, sha256)
    _check_other_digests(form, staged)
    return sha256, _read(staged, filename)


def _check_sha256(form: Mapping[str, str], sha256: str) -> None:
    given = form.get("sha256_digest")
    if given and given.lower() != sha256:
        raise InvalidUploadError(_digest_message("sha256_digest", given, sha256))


async def _check_digests(form: Mapping[str, str], staged: StagedFile, sha256: str) -> None:
    _check_sha256(form, sha256)
    if form.get("md5_digest") or form.get("blake2_256_digest"):
        await staged.in_thread(_check_other_digests, form, staged)


def _check_other_digests(form: Mapping[str, str], staged: StagedFile) -> None:
    for field, digest in (("md5_digest", staged.md5), ("blake2_256_digest", staged.blake2_256)):
        given = form.get(field)
        if given:
            actual = digest()
            if given.lower() != actual:
                raise InvalidUploadError(_digest_message(field, given, actual))


def _digest_message(field: str, given: str, actual: str) -> str:
    return f"{field} is {given[:130]!r}, but the content that arrived has {actual!r}; upload the file again."


def _read(staged: StagedFile, filename: DistributionFilename) -> Distribution:
    with staged.path.open("rb") as stream:
        return read_distribution(stream, filename)
