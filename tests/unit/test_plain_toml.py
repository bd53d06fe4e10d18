"""The fast reader says what tomllib says, or nothing."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pywharf.core.plain_toml import read_plain
from pywharf.core.toml_text import dumps

INDEX = """mtime = 1700000000
[[pkgs]]
type = "file_system"
package = "a-1.0 ü"
package_path = "/srv/a"

[pkgs.meta]
sha256 = "00"
requires_python = ""
[[pkgs]]
type = "file_system"
[[projects]]
name = "a"
status = "archived"
"""
SIDECAR = 'distrib = "a"\nsha256 = "00"\nrequires_python = ">=3.8"\n'


@pytest.mark.parametrize("text", [INDEX, SIDECAR, "", "mtime = 0\n[[pkgs]]\n"])
def test_the_plain_form_is_read(text):
    assert read_plain(text) == tomllib.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        'a = "1"\na = "2"\n',
        '[[p]]\na = "1"\na = "2"\n',
        'p = 1\n[[p]]\na = "1"\n',
        '[[p]]\nt = "1"\n\n[p.t]\na = "1"\n',
        '[[p]]\na = "1"\n\n[p.t]\na = "1"\n\n[p.t]\nb = "1"\n',
        '[[p]]\na = "1"\n\n[p.t]\na = "1"\n\n[p.u]\nb = "1"\n',
        '[[p]]\na = "1"\n\n[q.t]\na = "1"\n',
        '[[p]]\na = "1"\n[p.t]\na = "1"\n',
        'a = "\\u0041"\n',
        'a = """\nb = "1"\n"""\n',
        "a = 'x'\n",
        "m = 01\n[[p]]\n",
        "m = 1\n",
        'a = "1"',
        'a = "1"\r\n',
        'a = "tab\there"\n',
        'a = "del\x7f"\n',
        'a = "1" # why\n',
        ' a = "1"\n',
        '"a" = "1"\n',
        'a.b = "1"\n',
        '[t]\na = "1"\n',
    ],
)
def test_every_other_form_is_left_to_tomllib(text):
    assert read_plain(text) is None


strings = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
keys = st.text("ab-_1", min_size=1, max_size=3)
tables = st.dictionaries(keys, strings, min_size=1, max_size=3)  # `toml` loses empty ones
elements = st.tuples(tables, st.none() | st.tuples(keys, tables))
numbers = st.dictionaries(keys, st.integers(-5, 10**20), max_size=2)


@given(numbers, st.dictionaries(keys, st.lists(elements, min_size=1, max_size=3)))
@settings(max_examples=200)
def test_what_it_reads_of_written_documents_is_right(numbers, arrays):
    lists = {k: [own | ({t[0]: t[1]} if t else {}) for own, t in array] for k, array in arrays.items()}
    _agrees(dumps(numbers | lists))


@given(st.sampled_from([INDEX, SIDECAR]), st.data())
@settings(max_examples=500)
def test_what_it_reads_of_damaged_documents_is_right(text, data):
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 12)))
        new = data.draw(st.text("\"[]=\n\\ apkgsmeti.1#\r'", max_size=3))
        text = text[:start] + new + text[end:]
    _agrees(text)


def _agrees(text):
    found = read_plain(text)
    if found is not None:
        assert found == tomllib.loads(text)
