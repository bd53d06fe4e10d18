"""Check index files and sidecars: both forms round trip, the original's is read, others are refused in a sentence."""

import json
import tomllib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.core.errors import BackendUnavailableError, InvalidConfigError
from pywharf.core.model import STATUSES, File, Project, ProjectStatus
from pywharf.core.names import ProjectName
from pywharf.index.codecs import EMPTY_INDEX, Index, decode_index, encode_index, written_at
from pywharf.index.sidecars import file_from_meta, meta_of, parse_meta, parse_status, status_text

A, B = "a" * 64, "b" * 64
FOO, BAR = ProjectName("foo"), ProjectName("bar")
CODECS = ["index.toml", "index.json"]


def encode(filename: str, projects: list[Project], mtime: int = 7) -> bytes:
    return encode_index(
        filename,
        mtime,
        projects,
        backend_type="github",
        location=lambda _, f: ("url", f.location) if f.location else None,
    )


def everything(index: Index) -> list[Project | None]:
    return [index.project(name) for name in index]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=15)
filenames = st.builds(
    lambda stem, extension: stem + extension,
    st.from_regex(r"\A[a-zA-Z0-9_.+!-]{1,15}\Z", fullmatch=True),
    st.sampled_from([".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz"]),
)
files = st.builds(
    File,
    filename=filenames,
    sha256=st.sampled_from([A, B]),
    size=st.none() | st.integers(0, 2**49),
    upload_time=st.none() | st.sampled_from(["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000006Z"]),
    requires_python=st.none() | texts.filter(bool),
    metadata_sha256=st.none() | st.just(B),
    yanked=st.none() | texts.filter(lambda t: t != "true"),  # "true" stands for "no reason given"
    location=st.none() | texts.filter(bool),
)
projects = st.lists(
    st.builds(
        lambda name, listed, status, reason: Project(
            name=ProjectName(name),
            files=tuple(sorted(listed, key=lambda f: f.filename)),
            status=status,
            status_reason=reason if status != "active" else None,
        ),
        st.from_regex(r"\A[a-z0-9]{1,6}(-[a-z0-9]{1,6}){0,2}\Z", fullmatch=True),
        st.lists(files, max_size=3, unique_by=lambda f: f.filename),
        st.sampled_from(STATUSES),
        st.none() | texts,
    ),
    max_size=4,
    unique_by=lambda p: p.name,
).map(lambda listed: sorted(listed, key=lambda p: p.name))


@pytest.mark.parametrize("filename", CODECS)
@given(listed=projects, mtime=st.integers(0, 2**40))
def test_round_trip(filename, listed, mtime):
    content = encode(filename, listed, mtime)
    index = decode_index(content, filename)
    assert everything(index) == listed
    assert index.mtime == written_at(content, filename) == mtime
    assert (list(index), len(index)) == ([p.name for p in listed], len(listed))
    assert all(p.name in index for p in listed)
    assert encode(filename, listed, mtime) == content


@pytest.mark.parametrize("filename", CODECS)
def test_source_shows_whether_a_project_changed(filename):
    old = Project(name=FOO, files=(File(filename="foo-1.zip", sha256=A),))
    new = msgspec.structs.replace(old, status="archived")
    indexes = [decode_index(encode(filename, [p], mtime), filename) for p, mtime in ((old, 1), (old, 2), (new, 3))]
    first, again, changed = (index.source(FOO) for index in indexes)
    assert first == again
    assert first != changed
    assert indexes[0].source(BAR) is None
    assert indexes[0].project(BAR) is None


def test_nothing_in_an_empty_index():
    assert (list(EMPTY_INDEX), len(EMPTY_INDEX), EMPTY_INDEX.mtime) == ([], 0, 0)
    assert FOO not in EMPTY_INDEX


# --- the original's ----------------------------------------------------------------------------------------------

ORIGINAL = f"""
mtime = 1584379892

[[pkgs]]
type = "file_system"
distrib = "foo"
package = "foo-1.0-py3-none-any"
ext = "whl"
sha256 = "{A}"
package_path = "/data/foo/foo-1.0-py3-none-any.whl"
[pkgs.meta]
":action" = "file_upload"
name = "Foo"
version = "1.0"
filetype = "bdist_wheel"
pyversion = "py3"
metadata_version = "2.1"
summary = "with \\"quotes\\""
requires_python = ">=3.6"
md5_digest = "0123"
distrib = "foo"
sha256 = "{A}"

[[pkgs]]
type = "github"
distrib = "Foo.Bar"
package = "Foo.Bar-1.0"
ext = "tar.gz"
sha256 = "{B.upper()}"
url = "https://api.example/assets/1"
meta = {{}}
"""


def test_the_original_s_index():
    index = decode_index(ORIGINAL.encode(), "index.toml")
    assert index.mtime == 1584379892
    assert everything(index) == [
        Project(name=FOO, files=(File(filename="foo-1.0-py3-none-any.whl", sha256=A, requires_python=">=3.6"),)),
        Project(
            name=ProjectName("foo-bar"),
            files=(File(filename="Foo.Bar-1.0.tar.gz", sha256=B, location="https://api.example/assets/1"),),
        ),
    ]


def test_our_toml_is_as_the_original_reads_it():
    file = File(filename="foo-1.0.tar.gz", sha256=A, size=5, requires_python=">=3.8", yanked="", location="u")
    document = tomllib.loads(encode("index.toml", [Project(name=FOO, files=(file,))]).decode())
    assert document == {
        "mtime": 7,
        "pkgs": [
            {
                "type": "github",
                "distrib": "foo",
                "package": "foo-1.0",
                "ext": "tar.gz",
                "sha256": A,
                "url": "u",
                "meta": {
                    "distrib": "foo",
                    "sha256": A,
                    "size": "5",
                    "requires_python": ">=3.8",
                    "yanked": "true",
                },
            }
        ],
    }


# --- JSON, decoded lazily ----------------------------------------------------------------------------------------


def test_json_of_a_project_is_read_when_it_is_asked_for():
    document = {"format": 1, "mtime": 1, "projects": {"foo": {"files": [{"filename": "f", "sha256": A}]}, "bar": 5}}
    index = decode_index(json.dumps(document).encode(), "index.json")
    assert list(index) == ["foo", "bar"]
    assert index.project(FOO) == Project(name=FOO, files=(File(filename="f", sha256=A),))
    with pytest.raises(BackendUnavailableError, match=r"The index's entry of 'bar' cannot be read .* run update_index"):
        index.project(BAR)


BROKEN_PROJECTS = {
    "no table": b"[]",
    "files of another kind": b'{"files": 5}',
    "file without its hash": b'{"files": [{"filename": "f"}]}',
    "no UTF-8": b'{"files": [{"filename": "\xff", "sha256": "a"}]}',
    "nested": b'{"files": ' + b"[" * 400 + b"]" * 400 + b"}",
}


@pytest.mark.parametrize("body", BROKEN_PROJECTS.values(), ids=BROKEN_PROJECTS)
def test_a_broken_project_is_refused_in_a_sentence(body):
    index = decode_index(b'{"format":1,"mtime":1,"projects":{"foo":' + body + b"}}", "index.json")
    with pytest.raises(BackendUnavailableError, match="The index's entry of 'foo' cannot be read"):
        index.project(FOO)


BROKEN = {
    "empty JSON": ("index.json", b""),
    "no JSON": ("index.json", b"mtime = 1"),
    "half a JSON": ("index.json", b'{"format":1,"mtime":1,"projects":{"foo":{}'),
    "other format": ("index.json", b'{"format":2,"mtime":1,"projects":{}}'),
    "no format": ("index.json", b'{"mtime":1,"projects":{}}'),
    "JSON of another shape": ("index.json", b'{"format":1,"mtime":1,"projects":[]}'),
    "JSON of bytes": ("index.json", b"\xff\xfe"),
    "deep JSON": ("index.json", b'{"format":1,"mtime":1,"projects":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"),
    "surrogate": ("index.json", b'{"format":1,"mtime":1,"projects":{"foo":{"files":[{"filename":"\\ud800"}]}}}'),
    "empty TOML": ("index.toml", b""),
    "no TOML": ("index.toml", b"{"),
    "TOML of bytes": ("index.toml", b"\xff\xfe"),
    "no mtime": ("index.toml", b"pkgs = []"),
    "mtime of another kind": ("index.toml", b"mtime = 'now'"),
    "pkgs of another kind": ("index.toml", b"mtime = 1\npkgs = 5"),
    "pkg of another kind": ("index.toml", b"mtime = 1\npkgs = [5]"),
    "pkg without a hash": ("index.toml", b"mtime = 1\n[[pkgs]]\ndistrib='a'\npackage='a'\next='zip'"),
    "pkg with another hash": ("index.toml", ORIGINAL.replace(A, "xyz").encode()),
    "pkg of no project": ("index.toml", ORIGINAL.replace('distrib = "Foo.Bar"', 'distrib = "../x"').encode()),
    "meta of another kind": ("index.toml", ORIGINAL.replace("meta = {}", "meta = {size = 5}").encode()),
    "deep TOML": ("index.toml", b"a = " + b"[" * 5_000),
    "TOML of many digits": ("index.toml", b"mtime = " + b"1" * 5_000),
}


@pytest.mark.parametrize(("filename", "content"), BROKEN.values(), ids=BROKEN)
def test_a_broken_index_is_refused_in_a_sentence(filename, content):
    with pytest.raises(BackendUnavailableError) as raised:
        decode_index(content, filename)
    assert str(raised.value).startswith(f"The index file {filename} cannot be read (")
    assert str(raised.value).endswith("); run update_index to write it again.")


@pytest.mark.parametrize("filename", CODECS)
@given(data=st.data(), listed=projects)
def test_a_damaged_index_is_read_or_refused(filename, data, listed):
    content = bytearray(encode(filename, listed))
    position = data.draw(st.integers(0, len(content)))
    content[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        everything(decode_index(bytes(content), filename))
    except BackendUnavailableError as error:
        assert "run update_index" in str(error)  # noqa: PT017


# --- sidecars ----------------------------------------------------------------------------------------------------


@given(files)
def test_meta_round_trip(file):
    meta = meta_of(FOO, file)
    assert file_from_meta(file.filename, meta, file.location) == file
    assert meta["distrib"] == "foo"
    assert all(isinstance(value, str) for value in meta.values())


@pytest.mark.parametrize(
    ("meta", "field", "value"),
    [
        ({}, "size", None),
        ({"size": "0"}, "size", 0),
        ({"size": "12"}, "size", 12),
        ({"size": ""}, "size", None),
        ({"size": "-1"}, "size", None),
        ({"size": "1e3"}, "size", None),
        ({"size": "\u0661"}, "size", None),
        ({"size": "9" * 5000}, "size", None),
        ({"upload_time": "2026-01-02T03:04:05.1Z"}, "upload_time", "2026-01-02T03:04:05.1Z"),
        ({"upload_time": "yesterday"}, "upload_time", None),
        ({"upload_time": "2026-01-02T03:04:05+01:00"}, "upload_time", None),
        ({"requires_python": ""}, "requires_python", None),
        ({"metadata_sha256": A}, "metadata_sha256", A),
        ({"metadata_sha256": "x\r\ny"}, "metadata_sha256", None),
        ({"yanked": "true"}, "yanked", ""),
        ({"yanked": ""}, "yanked", ""),
        ({"yanked": "broken"}, "yanked", "broken"),
        ({"sha256": B.upper()}, "sha256", B),
        ({"name": "Foo", ":action": "file_upload", "zzz": "1"}, "size", None),
    ],
)
def test_field_of_meta(meta, field, value):
    file = file_from_meta("foo-1.zip", {"sha256": A} | meta)
    assert getattr(file, field) == value


@pytest.mark.parametrize("sha256", [None, "", "abc", "g" * 64, A + "\n", A + "a", '"><script>' + A[10:]])
def test_meta_without_a_hash(sha256):
    meta = {} if sha256 is None else {"sha256": sha256}
    with pytest.raises(InvalidConfigError, match=r"the sha256 of 'foo-1\.zip' is .* must be 64 hexadecimal digits"):
        file_from_meta("foo-1.zip", meta)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "here: 'distrib' is missing."),
        ("distrib = 'foo'", "here: 'sha256' is missing."),
        (f"sha256 = '{A}'", "here: 'distrib' is missing."),
        (f"distrib = 'foo'\nsha256 = '{A}'\nsize = 5", "here: 'size' is not a string."),
        (f"distrib = 'foo'\nsha256 = '{A}'\n[more]", "here: 'more' is not a string."),
        ("distrib", "here is not valid TOML: "),
    ],
)
def test_no_sidecar(text, reason):
    with pytest.raises(InvalidConfigError) as raised:
        parse_meta(text, "here")
    assert str(raised.value).startswith(reason)


def test_sidecar():
    text = f'distrib = "foo"\nsha256 = "{A}"\n":action" = "file_upload"\n'
    assert parse_meta(text, "here") == {"distrib": "foo", "sha256": A, ":action": "file_upload"}


@pytest.mark.parametrize("status", STATUSES)
def test_status_file(status):
    assert parse_status(f"status = '{status}'", "here") == ProjectStatus(status)
    assert parse_status(f"status = '{status}'\nreason = 'x'", "here") == ProjectStatus(status, "x")
    for wanted in (ProjectStatus(status, 'a "b"\n', 7), ProjectStatus(status, None, 1)):
        assert parse_status(status_text(wanted), "here") == wanted


@pytest.mark.parametrize(
    "text", ["", "status = 'gone'", "status = 5", "status = 'active'\nreason = 5", "status = 'active'\nmore = 'x'", "x"]
)
def test_no_status_file(text):
    with pytest.raises(InvalidConfigError, match=r"^here"):
        parse_status(text, "here")
