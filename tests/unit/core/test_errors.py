"""Check the error tree: each deliberate error has a status, a code and a title of its own."""

import http
from collections import Counter
from collections.abc import Iterator

import pytest

from pywharf.core import errors
from pywharf.core.errors import (
    FileExistsInRepoError,
    IndexConflictError,
    NotFoundError,
    PywharfError,
    RangeNotSatisfiableError,
    TooLargeError,
    UnauthenticatedError,
)
from support.error_classes import error_classes

CLASSES = sorted(error_classes(), key=lambda c: c.__name__)


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_mapped(error):
    assert 400 <= http.HTTPStatus(error.status) < 600
    assert error.code == "-".join(error.code.split("-")).lower()
    assert error.code.replace("-", "").isalpha()
    assert error.title[0].isupper()


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_says_its_code_and_title_itself(error):
    assert {"code", "title"} <= vars(error).keys(), "an inherited code would tell two errors as one"


@pytest.mark.parametrize("field", ["code", "title"])
def test_no_two_errors_look_like_one(field):
    assert [value for value, count in Counter(getattr(c, field) for c in CLASSES).items() if count > 1] == []


def test_statuses_that_clients_rely_on():
    """Twine, pip and uv rely on the status of each code, so it must not change by accident."""
    statuses = {c.code: c.status for c in CLASSES}
    assert statuses == statuses | {
        "internal-error": 500,
        "invalid-name": 400,
        "invalid-filename": 400,
        "invalid-distribution": 400,
        "invalid-upload": 400,
        "unauthenticated": 401,
        "forbidden": 403,
        "not-found": 404,
        "not-acceptable": 406,
        "file-exists": 409,
        "too-large": 413,
        "range-not-satisfiable": 416,
        "upstream-error": 502,
        "index-not-loaded": 503,
        "backend-unavailable": 503,
        "data-owned-by-other": 503,
        "index-conflict": 503,
        "upstream-timeout": 504,
        "storage-full": 507,
    }


def test_the_docstring_draws_the_whole_tree():
    drawn = [line.removeprefix("    ") for line in errors.__doc__.splitlines() if line.endswith("Error")]
    assert drawn == list(_drawn(PywharfError))


def _drawn(error: type[PywharfError], margin: str = "", branch: str = "") -> Iterator[str]:
    """Yield the tree's lines; the classes of one parent stand in their order in the file."""
    yield margin + branch + error.__name__
    children = [child for child in error.__subclasses__() if child.__module__.startswith("pywharf.")]
    margin += {"": "", "├── ": "│   ", "└── ": "    "}[branch]
    for child in children:
        yield from _drawn(child, margin, "└── " if child is children[-1] else "├── ")


SENTENCES = [
    (FileExistsInRepoError("a-1.zip"), "File already exists: a-1.zip with other content. Publish a new version."),
    (
        FileExistsInRepoError("a-1.zip", "A-1.zip"),
        "File already exists: a-1.zip is the same distribution as A-1.zip. Publish a new version.",
    ),
    (IndexConflictError(), "The index was replaced by another writer; run update_index again."),
    (NotFoundError.file_removed("a-1.zip"), "The file 'a-1.zip' is no longer in the storage."),
    (NotFoundError.no_core_metadata("a-1.zip"), "The storage holds no core metadata of 'a-1.zip'."),
    (TooLargeError.too_many_fields(32), "The form has more than 32 fields."),
    (UnauthenticatedError.wrong_secret(), "The repo's name or the secret is wrong."),
]


@pytest.mark.parametrize(("error", "sentence"), SENTENCES, ids=range(len(SENTENCES)))
def test_an_error_says_its_sentence(error, sentence):
    """Twine, uv and poetry identify some of them by their beginning."""
    assert str(error) == sentence


def test_range_error_knows_the_size():
    error = RangeNotSatisfiableError("too far", 7)
    assert (str(error), error.size) == ("too far", 7)
