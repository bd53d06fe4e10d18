"""What is copied of one project, and what is left out and why."""

import pytest

from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.index.copying import planning
from pywharf.index.copying.planning import Plan, plan_project
from pywharf.index.copying.source import SourceProject
from pywharf.index.ports import Reserve, ScannedProject, SetStatus, SetYanked

FOO = ProjectName("foo")
A, B = "a" * 64, "b" * 64
MOST = 1000


def file(name: str, sha256: str = A, *, size: int | None = 10, yanked: str | None = None) -> File:
    return File(filename=name, sha256=sha256, size=size, yanked=yanked)


def project(*files: File, status: str = "active", reason: str | None = None) -> Project:
    return Project(name=FOO, status=status, status_reason=reason).with_files(files)


def plan(
    source: Project, target: Project | None = None, *, deleted: tuple[str, ...] = (), is_repo: bool = True
) -> Plan:
    held = None if target is None else ScannedProject(target, deleted=deleted)
    return plan_project(SourceProject(source), held, is_repo=is_repo, max_file_bytes=MOST)


def test_a_new_project_is_copied_whole():
    found = plan(project(file("foo-1.0.tar.gz"), file("foo-2.0.tar.gz", yanked="bad")))
    assert [f.filename for f in found.copies] == ["foo-1.0.tar.gz", "foo-2.0.tar.gz"]
    assert (found.known, found.yanks, found.status, found.present, found.problems) == (None, (), None, 0, ())


def test_what_is_there_is_not_copied():
    found = plan(
        project(file("foo-1.0.tar.gz"), file("foo-2.0.tar.gz", sha256="")),
        project(file("foo-1.0.tar.gz"), file("foo-2.0.tar.gz", B), file("foo-3.0.tar.gz")),
    )
    assert (found.copies, found.present, found.unverified, found.problems) == ((), 2, 1, ())


@pytest.mark.parametrize(
    ("one", "there", "deleted", "says"),
    [
        (file("foo-1.0.tar.gz"), file("foo-1.0.tar.gz", B), (), "the target has other bytes under this name"),
        (file("foo-1.0.tar.gz"), file("Foo-1.0.0.tar.gz"), (), "it is the same distribution as Foo-1.0.0.tar.gz"),
        (file("foo-1.0.tar.gz"), None, ("foo-1.0.tar.gz",), "which was deleted, and its name stays taken"),
        (file("foo-1.0.tar.gz"), None, ("foo-1.tar.gz",), "the target had foo-1.tar.gz, which was deleted"),
        (file("foo-1.0.tar.gz", size=MOST + 1), None, (), "it has 1001 bytes; the target takes at most 1000"),
        (file("foo-1.0.egg"), None, (), "its name is no file name of a distribution"),
        (file("../foo-1.0.tar.gz"), None, (), "its name is no file name of a distribution"),
        (file("x" * 300 + ".tar.gz"), None, (), "its name is no file name of a distribution"),
    ],
)
def test_what_cannot_be_copied_is_named_and_the_rest_is_copied(one, there, deleted, says):
    target = project(*([there] if there is not None else []))
    found = plan(project(one, file("foo-9.0.tar.gz")), target, deleted=deleted)
    assert [f.filename for f in found.copies] == ["foo-9.0.tar.gz"]
    assert len(found.problems) == 1
    assert says in found.problems[0]
    assert len(found.problems[0]) < 500


def test_a_project_has_no_more_files_than_a_page(monkeypatch):
    monkeypatch.setattr(planning, "MAX_PROJECT_FILES", 3)
    found = plan(project(*(file(f"foo-{n}.0.tar.gz") for n in range(5))), project(file("foo-0.0.tar.gz")))
    assert (len(found.copies), len(found.problems)) == (2, 2)


@pytest.mark.parametrize(
    ("source", "target", "is_repo", "change"),
    [
        (None, None, True, []),
        ("bad", None, True, ["bad"]),
        ("bad", "worse", True, ["bad"]),
        (None, "worse", True, [None]),
        ("bad", None, False, ["bad"]),
        ("bad", "worse", False, []),
        (None, "worse", False, []),
    ],
)
def test_yanks_of_what_is_there(source, target, is_repo, change):
    found = plan(
        project(file("foo-1.0.tar.gz", yanked=source)), project(file("foo-1.0.tar.gz", yanked=target)), is_repo=is_repo
    )
    assert list(found.yanks) == [SetYanked("foo-1.0.tar.gz", reason) for reason in change]


@pytest.mark.parametrize(
    ("source", "target", "is_repo", "change"),
    [
        ("active", "active", True, None),
        ("archived", None, True, "archived"),
        ("archived", "active", True, "archived"),
        ("active", "quarantined", True, "active"),
        ("archived", "active", False, "archived"),
        ("active", "quarantined", False, None),
        ("archived", "quarantined", False, None),
    ],
)
def test_statuses(source, target, is_repo, change):
    there = None if target is None else project(file("foo-1.0.tar.gz"), status=target)
    found = plan(project(file("foo-1.0.tar.gz"), status=source), there, is_repo=is_repo)
    assert found.status == (None if change is None else SetStatus(change))


@pytest.mark.parametrize(("is_repo", "copies"), [(True, 1), (False, 0)])
def test_a_project_that_takes_no_files_takes_a_repos_alone(is_repo, copies):
    found = plan(project(file("foo-1.0.tar.gz")), project(file("foo-0.9.tar.gz"), status="archived"), is_repo=is_repo)
    assert len(found.copies) == copies
    assert len(found.problems) == 1 - copies


def test_names_that_the_source_deleted():
    names = ("1.0.tar.gz", "2.0.tar.gz", "2.0.0.tar.gz", "3.0.tar.gz", "3.tar.gz", "4.0.egg", "/../5.0.tar.gz")
    source = SourceProject(project(), deleted=tuple(f"foo-{name}" for name in names))
    held = ScannedProject(project(file("foo-2.0.tar.gz")), deleted=("foo-3.0.tar.gz",))
    found = plan_project(source, held, is_repo=True, max_file_bytes=MOST)
    assert found.reserves == (Reserve("foo-1.0.tar.gz"),)
    assert found.problems == (
        "foo/foo-2.0.tar.gz was deleted at the source, but the target still has it; delete it there.",
    )
