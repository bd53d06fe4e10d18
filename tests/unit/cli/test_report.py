"""Check the report of a run of update_index: JSON that fits into a termination message."""

import errno
import json
import os

import pytest

from pywharf.cli import report
from pywharf.index.update import Summary


def summary(*problems: str) -> Summary:
    return Summary(projects=1, files=2, bytes=3, changed=True, problems=problems)


@pytest.mark.parametrize(
    ("problems", "kept", "last"),
    [
        ((), 0, None),
        (("a.", "b."), 2, "b."),
        (("x" * 5000,), 1, "x" * 299 + "…"),
        (("ü" * 5000,) * 3, 3, "ü" * 299 + "…"),
        (("\x01" * 5000,) * 3, 3, "Further problems, which the log names: 1."),
        (("",) * 1000, 101, "Further problems, which the log names: 900."),
        (("x" * 200,) * 1000, 20, "Further problems, which the log names: 981."),
    ],
)
def test_a_summary_is_shortened(problems, kept, last):
    text = report.of_summary(summary(*problems))
    assert len(text) <= report.MAX_BYTES
    parsed = json.loads(text)
    assert {name: parsed[name] for name in ("projects", "files", "bytes", "changed")} == {
        "projects": 1,
        "files": 2,
        "bytes": 3,
        "changed": True,
    }
    assert (len(parsed["problems"]), (parsed["problems"] or [None])[-1]) == (kept, last)


@pytest.mark.parametrize("reason", ["It is so.", "x" * 4083, "x" * 4084, "x" * 10000, "ü" * 10000, '\x01"' * 10000])
def test_a_failure_is_shortened(reason):
    text = report.of_failure(reason)
    assert len(text) <= report.MAX_BYTES
    error = json.loads(text)["error"]
    assert error == reason or (error.endswith("…") and reason.startswith(error[:-1]) and len(text) > 4000)


@pytest.mark.parametrize("fault", [None, errno.EBUSY, errno.EACCES])
def test_where_the_file_cannot_be_replaced_it_is_written_as_it_is(tmp_path, monkeypatch, fault):
    """A mounted file is busy. Beside a file in /dev, nobody may write."""
    file = tmp_path / "report"
    file.write_text("old and longer than what comes" * 100)
    before = file.stat().st_ino

    def fail(*args: object) -> None:
        raise OSError(fault, os.strerror(fault or 0))

    if fault is not None:
        monkeypatch.setattr("pathlib.Path.replace", fail)
    report.write(str(file), b"new")
    assert file.read_bytes() == b"new"
    assert (file.stat().st_ino == before) is (fault is not None)
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_stays_one(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to(file)
    report.write(str(link), b"new")
    assert link.is_symlink()
    assert file.read_bytes() == b"new"
