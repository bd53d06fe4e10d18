"""Check the record of a distribution: the one recipe of an upload and of a scan."""

import hashlib

import pytest

from pywharf.core.distribution import read_distribution, record_of
from pywharf.core.filenames import parse_upload_filename
from pywharf.core.model import File, rfc3339
from support.distributions.wheels import metadata, sdist, wheel

SHA256 = "a" * 64


@pytest.mark.parametrize(
    ("make", "requires_python", "offered"),
    [
        (lambda folder: wheel(folder, "foo"), ">=3.8", metadata("foo", "1.0")),
        (lambda folder: wheel(folder, "foo", requires_python=None), None, metadata("foo", "1.0", None)),
        (lambda folder: sdist(folder, "foo"), ">=3.8", None),
    ],
)
def test_a_record(tmp_path, make, requires_python, offered):
    path = make(tmp_path)
    with path.open("rb") as stream:
        read = read_distribution(stream, parse_upload_filename(path.name))
    assert read.offered_metadata == offered
    assert record_of(read, sha256=SHA256, size=7, uploaded_at=1_700_000_000.25, stamp="1:2") == File(
        filename=path.name,
        sha256=SHA256,
        size=7,
        upload_time="2023-11-14T22:13:20.250000Z",
        requires_python=requires_python,
        metadata_sha256=None if offered is None else hashlib.sha256(offered).hexdigest(),
        stamp="1:2",
    )
    assert record_of(read, sha256=SHA256, size=7, uploaded_at=0).stamp is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_700_000_000, "2023-11-14T22:13:20.000000Z"),
        (1_700_000_000.000001, "2023-11-14T22:13:20.000001Z"),
    ],
)
def test_times(seconds, text):
    assert rfc3339(seconds) == text


@pytest.mark.parametrize(
    ("recorded", "completed"),
    [(None, "2023-11-14T22:13:20.000000Z"), ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z")],
)
def test_what_the_original_did_not_record_comes_from_the_storage(recorded, completed):
    file = File(filename="foo-1.0.zip", sha256=SHA256, upload_time=recorded)
    assert file.completed(size=7, upload_time=rfc3339(1_700_000_000)) == File(
        filename="foo-1.0.zip", sha256=SHA256, size=7, upload_time=completed
    )
