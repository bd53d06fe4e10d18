"""Translate the operating system's errors to those of the error tree. Only this module maps an errno to a class. Pure.

Clients see the sentences, so those about a server's storage name no path.
"""

import contextlib
import errno
from collections.abc import Callable, Iterator

from pywharf.core.errors import (
    BackendUnavailableError,
    InvalidConfigError,
    NotFoundError,
    PywharfError,
    StorageFullError,
)

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REMEDY_FOR_FULL = "Free some room or enlarge the volume."


@contextlib.contextmanager
def translating(translate: Callable[[OSError], PywharfError]) -> Iterator[None]:
    """Raise what `translate` returns for an OSError."""
    try:
        yield
    except OSError as error:
        raise translate(error) from error


def reason_of(error: OSError) -> str:
    """Return what the operating system says, without a path: a part of a sentence."""
    return error.strerror or type(error).__name__


def is_full(error: OSError) -> bool:
    """Return whether a disk, a quota or the largest size of a file is reached."""
    return error.errno in _FULL


def of_storage(error: OSError) -> PywharfError:
    """Translate an error of a repo's storage."""
    if is_full(error):
        return StorageFullError(f"The storage is full; nothing of this was kept. {_REMEDY_FOR_FULL}")
    return BackendUnavailableError(f"The storage of this repo cannot be used now: {reason_of(error)}.")


def of_cache(error: OSError) -> PywharfError:
    """Translate an error of the pull-through cache's folder."""
    if is_full(error):
        return StorageFullError(f"The pull-through cache is full; nothing of this was kept. {_REMEDY_FOR_FULL}")
    return BackendUnavailableError(f"The pull-through cache cannot be used now: {reason_of(error)}.")


def of_upload(error: OSError) -> PywharfError:
    """Translate an error of an upload's temporary file."""
    if is_full(error):
        return StorageFullError(f"The disk is full; nothing of the upload was kept. {_REMEDY_FOR_FULL}")
    return BackendUnavailableError(f"The upload cannot be stored now: {reason_of(error)}.")


def of_opening(error: OSError, filename: str) -> PywharfError:
    """Translate an error of opening a published file."""
    if error.errno == errno.ENOENT:
        return NotFoundError.file_removed(filename)
    if error.errno == errno.ENAMETOOLONG:
        return NotFoundError(f"No storage has a file of so long a name as {filename[:80]!r}…")
    return BackendUnavailableError(f"The file {filename!r} cannot be read now: {reason_of(error)}.")


def of_writing(error: OSError, flag: str) -> PywharfError:
    """Translate an error of writing files into the folder that a command's flag names."""
    kind = StorageFullError if is_full(error) else InvalidConfigError
    return kind(f"{flag}: {error.filename!r} cannot be written: {reason_of(error)}.")
