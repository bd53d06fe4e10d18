"""Check the cache of decoded projects: its files are limited, and the least recently used projects go first."""

import pytest

from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.index.catalog import Catalog
from pywharf.index.codecs import decode_index, encode_index
from pywharf.index.ports import JournalEntry
from pywharf.index.recent_projects import RecentProjects

FOO = ProjectName("foo")


def project(name: str, files: int = 1) -> Project:
    return Project(name=ProjectName(name), files=tuple(file(f"{name}-{number:03d}.zip") for number in range(files)))


def file(name: str) -> File:
    return File(filename=name, sha256="a" * 64, size=1)


def kept(recent: RecentProjects, names: str) -> str:
    return "".join(name for name in names if recent.get(ProjectName(name)) is not None)


def test_the_least_recently_used_are_dropped():
    recent = RecentProjects(30)
    for name in "abc":
        recent.put(project(name, 10))
    assert recent.get(ProjectName("a")) is not None
    recent.put(project("d", 15))
    assert kept(recent, "abcd") == "ad"


def test_what_was_dropped_makes_room():
    recent = RecentProjects(20)
    for _ in range(10):
        recent.put(project("a", 10))
        recent.drop(ProjectName("a"))
        recent.drop(ProjectName("a"))
    recent.put(project("b", 10))
    recent.put(project("c", 10))
    assert kept(recent, "abc") == "bc"


def test_a_project_too_large_drops_no_other():
    recent = RecentProjects(20)
    recent.put(project("a", 10))
    recent.put(project("b", 21))
    assert kept(recent, "ab") == "a"


def test_a_catalog_decodes_a_project_once_and_again_after_an_upload():
    content = encode_index("index.json", 1, [project("foo", 3)], backend_type="memory", location=lambda _p, _f: None)
    catalog = Catalog(decode_index(content, "index.json"))
    first = catalog.project(FOO)
    assert catalog.project(FOO) is first
    catalog.add(JournalEntry(FOO, file("foo-9.zip")))
    second = catalog.project(FOO)
    assert second is not None
    assert [f.filename for f in second.files] == ["foo-000.zip", "foo-001.zip", "foo-002.zip", "foo-9.zip"]
    assert catalog.project(FOO) is second


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100])
def test_a_file_is_found_by_its_name(count):
    found = project("foo", count)
    assert [found.file(f.filename) for f in found.files] == list(found.files)
    assert [found.file(name) for name in ("", "foo-000", "foo-000.zipx", "goo")] == [None] * 4
