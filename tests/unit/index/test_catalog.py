"""Check a catalog: an index with newer uploads on top of it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.index.catalog import Catalog
from pywharf.index.codecs import Index, decode_index, encode_index
from pywharf.index.ports import JournalEntry

FOO, BAR, BAZ = ProjectName("foo"), ProjectName("bar"), ProjectName("baz")


def file(name: str, sha256: str = "a" * 64) -> File:
    return File(filename=name, sha256=sha256, size=1)


def index_of(*projects: Project, codec: str = "index.json") -> Index:
    content = encode_index(codec, 1, projects, backend_type="memory", location=lambda _name, _file: None)
    return decode_index(content, codec)


INDEXED = Project(name=FOO, files=(file("foo-1.zip"),), status="deprecated", status_reason="old")


@pytest.mark.parametrize("codec", ["index.json", "index.toml"])
def test_uploads_lie_over_the_index(codec):
    catalog = Catalog(index_of(INDEXED, codec=codec))
    catalog.add(JournalEntry(FOO, file("foo-0.zip")))
    catalog.add(JournalEntry(FOO, file("foo-1.zip", "b" * 64)))
    catalog.add(JournalEntry(BAR, file("bar-1.zip")))
    assert catalog.project(FOO) == Project(
        name=FOO, files=(file("foo-0.zip"), file("foo-1.zip", "b" * 64)), status="deprecated", status_reason="old"
    )
    assert catalog.project(BAR) == Project(name=BAR, files=(file("bar-1.zip"),))
    assert catalog.project(BAZ) is None
    assert catalog.source(BAZ) is None
    assert catalog.names() == ("bar", "foo")
    assert {(e.project, e.file.filename) for e in catalog.entries() if e.file} == {
        ("foo", "foo-0.zip"),
        ("foo", "foo-1.zip"),
        ("bar", "bar-1.zip"),
    }


def test_names_stay_the_same_tuple_until_there_is_another():
    catalog = Catalog(index_of(INDEXED))
    names = catalog.names()
    catalog.add(JournalEntry(FOO, file("foo-2.zip")))
    assert catalog.names() is names
    catalog.add(JournalEntry(BAR, file("bar-1.zip")))
    catalog.add(JournalEntry(BAR, file("bar-2.zip")))
    assert catalog.names() == ("bar", "foo")
    assert catalog.names() is catalog.names()


def test_source_is_another_after_each_change_and_only_then():
    catalog = Catalog(index_of(INDEXED))
    seen = [catalog.source(FOO)]
    for name in ("foo-2.zip", "foo-3.zip"):
        catalog.add(JournalEntry(FOO, file(name)))
        assert all(catalog.source(FOO) != old for old in seen), "a page made before would be served again"
        seen.append(catalog.source(FOO))
    catalog.add(JournalEntry(FOO, file("foo-3.zip")))
    catalog.add(JournalEntry(BAR, file("bar-1.zip")))
    assert catalog.source(FOO) is seen[-1]
    assert Catalog(index_of(INDEXED), catalog.entries()).source(FOO) == seen[-1]


entries = st.builds(
    JournalEntry,
    st.sampled_from([FOO, BAR, BAZ]),
    st.builds(file, st.sampled_from(["1.zip", "2.zip", "3.zip"]), st.sampled_from(["a" * 64, "b" * 64])),
)


@given(st.lists(entries, max_size=8), st.lists(st.booleans(), max_size=8))
def test_however_it_came_about_a_catalog_says_the_same(added, reads):
    """It makes no difference whether names and sources were read in between."""
    catalog = Catalog(index_of(INDEXED))
    for entry, is_read in zip(added, [*reads, *[False] * 8], strict=False):
        if is_read:
            catalog.names()
            catalog.source(entry.project)
        catalog.add(entry)
    fresh = Catalog(index_of(INDEXED), added)
    expected: dict[ProjectName, dict[str, File]] = {e.project: {} for e in added} | {
        FOO: {"foo-1.zip": INDEXED.files[0]}
    }
    for e in added:
        expected[e.project][e.file.filename] = e.file
    for one in (catalog, fresh):
        assert one.names() == tuple(sorted(expected))
        for name, files in expected.items():
            project = one.project(name)
            assert project is not None
            assert {f.filename: f for f in project.files} == files
            assert [f.filename for f in project.files] == sorted(files)
    assert all(catalog.source(name) == fresh.source(name) for name in (FOO, BAR, BAZ))


def test_many_uploads_of_one_project_are_noted_in_no_time():
    uploads = [JournalEntry(FOO, file(f"foo-{i}.zip")) for i in range(20_000)]
    started = time.process_time()
    catalog = Catalog(index_of(INDEXED), uploads)
    assert time.process_time() - started < 1, "copying all of them for each takes 3 s"
    assert len(catalog.entries()) == 20_000
