"""Which files locks mean: as they name them, or as a page of the repo lists them, for the chosen platforms."""

from pathlib import Path

import pytest

from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.lock_files import Lock, LockedFile, Note, Pin, read_lock
from pywharf.lock_files.platforms import Target, parse_platform
from pywharf.lock_files.wanted import Resolved, Wanted, WantedFile, resolve, wanted_of

SIX = ProjectName("six")
A, B, C = "a" * 64, "b" * 64, "c" * 64
WHEEL = "six-1.17-py2.py3-none-any.whl"
WIN = "six-1.17-cp312-cp312-win_amd64.whl"
SDIST = "six-1.17.tar.gz"
LINUX = Target((parse_platform("linux_x86_64"),))  # type: ignore[arg-type]
PAGE = (
    File(filename=SDIST, sha256=A),
    File(filename=WHEEL, sha256=B),
    File(filename=WIN, sha256=C),
    File(filename="six-1.16.tar.gz", sha256="d" * 64),
    File(filename="six-1.17.tar.bz2", sha256=""),
)


def pin(*files: LockedFile, version: str = "1.17", index: str | None = None) -> Pin:
    return Pin(SIX, version, files, index)


def test_the_files_that_a_lock_names() -> None:
    of_pypi = pin(LockedFile(WHEEL, B, url=f"https://files.other.example/x/{WHEEL}"), LockedFile(WIN, C), index="a")
    of_here = pin(LockedFile(WHEEL, B), LockedFile(SDIST, A), index="b")
    locks = [Lock((of_pypi,), (Note("numpy", "is not pinned to one version"),)), Lock((of_here,))]
    everything = tuple(WantedFile(SIX, name, digest) for name, digest in ((WIN, C), (WHEEL, B), (SDIST, A)))
    note = "'numpy' is not pinned to one version, so it is not prefetched"
    assert wanted_of(locks, Target()) == Wanted(everything, notes=(note,))
    assert wanted_of(locks, LINUX) == Wanted(everything[1:], notes=(note,))


def test_a_release_for_other_platforms_is_a_note() -> None:
    found = wanted_of([Lock((pin(LockedFile(WIN, C)),))], LINUX)
    assert found == Wanted(notes=("no file of six 1.17 is for the chosen platforms",))


@pytest.mark.parametrize(
    "files",
    [(), (LockedFile(sha256=A),), (LockedFile(WHEEL),), (LockedFile(WHEEL, B), LockedFile(SDIST))],
    ids=["none", "digest", "name", "one-without-digest"],
)
def test_pins_for_which_a_page_is_asked(files: tuple[LockedFile, ...]) -> None:
    assert wanted_of([Lock((pin(*files, index="i"),))] * 2, Target()) == Wanted(open=(pin(*files),))


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (LockedFile("../../etc/passwd.whl", A), "not the name of a distribution"),
        (LockedFile("x" * 100_000 + ".whl", A), "not the name of a distribution"),
        (LockedFile(".hidden.whl", A), "not the name of a distribution"),
        (LockedFile(SDIST, "../x"), "not a SHA-256"),
        (LockedFile(SDIST, "z" * 64), "not a SHA-256"),
    ],
)
def test_hostile_names_and_digests(file: LockedFile, words: str) -> None:
    found = wanted_of([Lock((pin(file, LockedFile(WHEEL, B)),))], Target())
    assert found.files == (WantedFile(SIX, WHEEL, B),)
    [problem] = found.problems
    assert words in problem
    assert len(problem) < 300


def wanted(*names: str) -> tuple[WantedFile, ...]:
    return tuple(WantedFile(SIX, file.filename, file.sha256) for file in PAGE if file.filename in names)


@pytest.mark.parametrize(
    ("asked", "target", "expected"),
    [
        (pin(), Target(), Resolved(wanted(SDIST, WHEEL, WIN))),
        (pin(), LINUX, Resolved(wanted(SDIST, WHEEL))),
        (pin(LockedFile(sha256=B)), Target(), Resolved(wanted(WHEEL))),
        (pin(LockedFile("other-name.whl", B)), Target(), Resolved(wanted(WHEEL))),
        (pin(LockedFile(WHEEL)), Target(), Resolved(wanted(WHEEL))),
        (
            pin(LockedFile(sha256=C)),
            LINUX,
            Resolved(note="no file of six 1.17 is for the chosen platforms"),
        ),
        (
            pin(LockedFile(WHEEL, A[:-1] + "0")),
            Target(),
            Resolved(problem="the repo shows no file of six 1.17 that the lock means"),
        ),
        (
            pin(version="2.0"),
            LINUX,
            Resolved(problem="the repo shows no file of six 2.0 that the lock means"),
        ),
        (
            pin(LockedFile(sha256=B), LockedFile(sha256="e" * 64)),
            Target(),
            Resolved(wanted(WHEEL), problem="the repo does not show 1 of 2 files of six 1.17 that the lock names"),
        ),
        (
            pin(LockedFile(sha256=B), LockedFile(sha256="e" * 64)),
            LINUX,
            Resolved(wanted(WHEEL), note="the repo does not show 1 of 2 files of six 1.17 that the lock names"),
        ),
    ],
)
def test_the_files_that_a_page_lists(asked: Pin, target: Target, expected: Resolved) -> None:
    assert resolve(asked, PAGE, target) == expected


DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("name", ["uv.lock", "pylock.toml", "requirements.txt"])
def test_locks_that_uv_wrote(name: str) -> None:
    """Read the same project locked three ways by uv against a public index, whose URLs do not matter."""
    lock = read_lock(DATA / name)
    assert {(p.project, p.version) for p in lock.pins} >= {("attrs", "25.3.0"), ("colorama", "0.4.6")}
    found = wanted_of([lock], Target())
    assert found.problems == ()
    if name == "requirements.txt":
        assert {p.project for p in found.open} == {p.project for p in lock.pins}
        assert all(file.sha256 for p in found.open for file in p.files)
    else:
        assert found.open == ()
        assert {file.project for file in found.files} == {p.project for p in lock.pins}
        assert len(wanted_of([lock], LINUX).files) < len(found.files)


def test_locks_without_pins_are_a_problem() -> None:
    found = wanted_of([Lock((), (Note("numpy", "is not pinned to one version"),))], Target())
    assert found.problems == ("the locks pin nothing that comes from an index",)
