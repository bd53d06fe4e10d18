"""Check how each error of the operating system reaches a user, and that only one module decides it."""

import errno
import os
import re
from pathlib import Path

import pytest

import pywharf
from pywharf.core.errors import (
    BackendUnavailableError,
    InvalidConfigError,
    NotFoundError,
    StorageFullError,
)
from pywharf.core.os_errors import of_opening, of_storage, of_upload, of_writing, reason_of, translating

FULL = ["ENOSPC", "EDQUOT", "EFBIG"]
TROUBLE = ["EIO", "EACCES", "ESTALE", "EROFS", "ENODEV", "EMFILE", "ENOTDIR"]
LOST = "cannot be used now: {reason}."


def opening(error):
    return of_opening(error, "a-1.zip")


def writing(error):
    return of_writing(error, "--folder")


TABLE = [
    *((of_storage, code, StorageFullError, "The storage is full; nothing of this was kept.") for code in FULL),
    *((of_storage, code, BackendUnavailableError, f"The storage of this repo {LOST}") for code in TROUBLE),
    (of_storage, "ENOENT", BackendUnavailableError, "The storage of this repo cannot be used now: No such file"),
    (of_storage, "ENAMETOOLONG", BackendUnavailableError, f"The storage of this repo {LOST}"),
    *((of_upload, code, StorageFullError, "The disk is full; nothing of the upload was kept.") for code in FULL),
    *((of_upload, code, BackendUnavailableError, "The upload cannot be stored now: {reason}.") for code in TROUBLE),
    (opening, "ENOENT", NotFoundError, "The file 'a-1.zip' is no longer in the storage."),
    (opening, "ENAMETOOLONG", NotFoundError, "No storage has a file of so long a name as 'a-1.zip'…"),
    *((opening, code, BackendUnavailableError, "The file 'a-1.zip' cannot be read now: {reason}.") for code in TROUBLE),
    *((writing, code, StorageFullError, "--folder: '/srv/site' cannot be written: {reason}.") for code in FULL),
    *((writing, code, InvalidConfigError, "--folder: '/srv/site' cannot be written: {reason}.") for code in TROUBLE),
]


@pytest.mark.parametrize(("translate", "code", "kind", "begins"), TABLE)
def test_the_table(translate, code, kind, begins):
    number = getattr(errno, code)
    error = OSError(number, os.strerror(number), "/srv/site")
    with pytest.raises(kind) as raised, translating(translate):
        raise error
    assert type(raised.value) is kind
    assert str(raised.value).startswith(begins.format(reason=os.strerror(number)))
    assert raised.value.__cause__ is error
    assert translate is writing or "/srv" not in str(raised.value), "clients see no path of the server"


@pytest.mark.parametrize("translate", [of_storage, of_upload])
def test_a_full_storage_names_the_remedy(translate):
    error = translate(OSError(errno.ENOSPC, "No space left on device"))
    assert str(error).endswith("Free some room or enlarge the volume.")


def test_an_error_without_a_reason_is_named_by_its_type():
    assert reason_of(TimeoutError()) == "TimeoutError"
    assert str(of_storage(OSError())) == "The storage of this repo cannot be used now: OSError."


def test_other_errors_pass():
    with pytest.raises(ValueError, match="mine"), translating(of_storage):
        raise ValueError("mine")


def test_no_other_module_decides_what_a_full_disk_means():
    root = Path(pywharf.__path__[0])
    looking = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"ENOSPC|EDQUOT|EFBIG|ENAMETOOLONG|^ *raise StorageFullError", path.read_text(), re.MULTILINE)
    }
    assert looking == {"core/os_errors.py"}
