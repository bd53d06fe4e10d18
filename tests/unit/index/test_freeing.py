"""Check that a large index is freed bit by bit, and only when nothing uses it."""

import weakref

from pywharf.core.model import File, Project
from pywharf.core.names import normalize
from pywharf.index import freeing
from pywharf.index.codecs import decode_index, encode_index
from support.waiting import wait_for


class _Key:
    """A key whose end can be observed."""


def test_a_large_dict_is_emptied_in_slices(monkeypatch):
    monkeypatch.setattr(freeing, "_MANY", 10)
    monkeypatch.setattr(freeing, "_SLICE", 3)
    entries = {_Key(): number for number in range(20)}
    keys = [weakref.ref(key) for key in entries]
    freeing.free_slowly(entries)
    wait_for(lambda: not entries and all(key() is None for key in keys), "all keys are freed")


def test_a_small_dict_is_left_alone():
    entries = {number: number for number in range(20)}
    freeing.free_slowly(entries)
    assert len(entries) == 20


def test_an_index_that_is_still_used_keeps_its_projects(monkeypatch):
    freed: list[int] = []
    monkeypatch.setattr("pywharf.index.index_json.free_slowly", lambda entries: freed.append(len(entries)))
    projects = [
        Project(name=normalize(f"p{n}"), files=(File(filename=f"p{n}-1.zip", sha256="0" * 64),)) for n in range(3)
    ]
    content = encode_index("index.json", 7, projects, backend_type="file_system", location=lambda _name, _file: None)
    index = decode_index(content, "index.json")
    other = index
    del index
    assert (freed, list(other)) == ([], ["p0", "p1", "p2"])
    del other
    assert freed == [3]
