"""The report of a run: a small JSON file, such as a container's termination message."""

import contextlib
import stat
from pathlib import Path

import msgspec

from pywharf.core.reports import IndexReport
from pywharf.disk.durable import write_atomically
from pywharf.index.update import Summary

MAX_BYTES = 4096
"""Bytes that Kubernetes keeps of a termination message."""
_PROBLEM_CHARACTERS = 300
_MOST_PROBLEMS = 100
_SHORTENED = "…"


def of_summary(summary: Summary) -> bytes:
    """Encode the summary as JSON. If it is too long, its last problem states how many were left out."""
    report = IndexReport(**msgspec.structs.asdict(summary))
    first = (_shortened(problem, _PROBLEM_CHARACTERS) for problem in summary.problems[:_MOST_PROBLEMS])
    problems = (*first, *summary.problems[_MOST_PROBLEMS:])
    for kept in range(min(len(problems), _MOST_PROBLEMS), -1, -1):
        left_out = len(problems) - kept
        said = problems[:kept] + ((f"Further problems, which the log names: {left_out}.",) if left_out else ())
        text = msgspec.json.encode(msgspec.structs.replace(report, problems=said)) + b"\n"
        if len(text) <= MAX_BYTES:
            return text
    raise AssertionError  # pragma: no cover - without problems it is short


def of_failure(reason: str) -> bytes:
    """Encode the reason, one sentence, as `{"error": …}`."""
    length = MAX_BYTES
    while True:
        text = msgspec.json.encode(IndexReport(error=_shortened(reason, length))) + b"\n"
        if len(text) <= MAX_BYTES:
            return text
        length -= max(1, (len(text) - MAX_BYTES) // 6)  # a character takes at most six bytes


def write(path: str, text: bytes) -> None:
    """Replace the file's content, atomically if the file can be replaced. Raises OSError.

    A link, a file that is not regular, or one that is itself a mount point is written in place.
    """
    file = Path(path)
    if _is_replaceable(file):
        with contextlib.suppress(OSError):
            write_atomically(file, text)
            return
    with file.open("wb") as opened:
        opened.write(text)


def _is_replaceable(file: Path) -> bool:
    try:
        return stat.S_ISREG(file.lstat().st_mode)
    except FileNotFoundError:
        return True


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + _SHORTENED
