import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.core.errors import InvalidFilenameError
from pywharf.core.filenames import Kind, extension_of, parse_upload_filename, version_of
from pywharf.core.names import normalize

WHEEL, SDIST = Kind.WHEEL, Kind.SDIST


@pytest.mark.parametrize(
    ("filename", "project", "version", "kind", "extension"),
    [
        ("foo-1.0-py3-none-any.whl", "foo", "1.0", WHEEL, ".whl"),
        ("Foo_Bar-1.0-py3-none-any.whl", "foo-bar", "1.0", WHEEL, ".whl"),
        ("foo.bar-1.0-py3-none-any.whl", "foo-bar", "1.0", WHEEL, ".whl"),
        ("foo-1.0-2-py3-none-any.whl", "foo", "1.0", WHEEL, ".whl"),
        ("foo-1.0-2build-py3-none-any.whl", "foo", "1.0", WHEEL, ".whl"),
        ("foo-1!2.0+local.1-cp311-abi3-manylinux_2_28_x86_64.whl", "foo", "1!2.0+local.1", WHEEL, ".whl"),
        ("foo-1.0-py2.py3-none-any.whl", "foo", "1.0", WHEEL, ".whl"),
        ("foo-1.0RC1-cp39-cp39-macosx_10_9_x86_64.macosx_11_0_arm64.whl", "foo", "1.0rc1", WHEEL, ".whl"),
        ("foo-1.0.tar.gz", "foo", "1.0", SDIST, ".tar.gz"),
        ("foo_bar-1.0.tar.gz", "foo-bar", "1.0", SDIST, ".tar.gz"),
        ("foo-bar-1.0.tar.gz", "foo-bar", "1.0", SDIST, ".tar.gz"),
        ("Foo.Bar-1.0.zip", "foo-bar", "1.0", SDIST, ".zip"),
        ("foo-1.0.post1.dev2+ab.3.tar.gz", "foo", "1.0.post1.dev2+ab.3", SDIST, ".tar.gz"),
        ("foo-v1.tar.gz", "foo", "1", SDIST, ".tar.gz"),
        ("a-0.tar.gz", "a", "0", SDIST, ".tar.gz"),
    ],
)
def test_taken(filename, project, version, kind, extension):
    parsed = parse_upload_filename(filename)
    assert (parsed.filename, parsed.project, parsed.version, parsed.kind, parsed.extension) == (
        filename,
        project,
        version,
        kind,
        extension,
    )
    assert version_of(filename, parsed.project) == version
    assert extension_of(filename) == extension


@pytest.mark.parametrize(
    ("filename", "reason"),
    [
        ("", "neither a wheel"),
        ("foo-1.0.egg", "neither a wheel (.whl) nor an sdist (.tar.gz, .zip)"),
        ("foo-1.0.tar.bz2", "neither a wheel"),
        ("foo-1.0.TAR.GZ", "neither a wheel"),
        ("foo-1.0-py3-none-any.whl.asc", "neither a wheel"),
        (".whl", "Invalid wheel"),
        (".tar.gz", "not a valid wheel or sdist"),
        ("-1.0.tar.gz", "not a valid wheel or sdist"),
        ("foo.tar.gz", "not a valid wheel or sdist"),
        ("foo-.tar.gz", "not a valid wheel or sdist"),
        ("foo-one.tar.gz", "not a valid wheel or sdist"),
        ("foo-1.0-py3-none.whl", "not a valid wheel or sdist"),
        ("foo-1.0-py3-none-any-more-and-more.whl", "not a valid wheel or sdist"),
        ("foo-1.0-build-py3-none-any.whl", "Invalid build number"),
        ("foo__bar-1.0-py3-none-any.whl", "Invalid project name"),
        ("_foo-1.0.tar.gz", "not a valid project name"),
        (".foo-1.0.tar.gz", "not a valid project name"),
        ("foo_-1.0-py3-none-any.whl", "not a valid project name"),
        ("foo-1.0--none-any.whl", "not a valid wheel or sdist"),
        ("../foo-1.0.tar.gz", "is not the file name of a distribution"),
        ("/etc/foo-1.0.tar.gz", "is not the file name of a distribution"),
        ("..\\foo-1.0.tar.gz", "is not the file name of a distribution"),
        ("foo-1.0\0.tar.gz", "is not the file name of a distribution"),
        ("foo-1.0\n.tar.gz", "is not the file name of a distribution"),
        ("foo-1.0.tar.gz\n", "is not the file name of a distribution"),
        ("foo- 1.0.tar.gz", "is not the file name of a distribution"),
        ("foo-1.0.tar.gz ", "is not the file name of a distribution"),
        ("foo-1.0-1<b>-py3-none-any.whl", "is not the file name of a distribution"),
        ("foo-1.0-1%2f-py3-none-any.whl", "is not the file name of a distribution"),
        ('foo-1.0-py3-none-a"b.whl', "is not the file name of a distribution"),
        ("foo-1.0-py3-none-any#x.whl", "is not the file name of a distribution"),
        ("f\u00f6\u00f6-1.0.tar.gz", "is not the file name of a distribution"),
        ("foo-\u0661.0.tar.gz", "is not the file name of a distribution"),
        ("foo-1.0\udcff.tar.gz", "is not the file name of a distribution"),
        ("a" * 240 + "-1.0.tar.gz", "is over 240 characters"),
        ("a" * 210 + "-1.0.tar.gz", "not a valid project name"),
    ],
)
def test_refused(filename, reason):
    with pytest.raises(InvalidFilenameError) as raised:
        parse_upload_filename(filename)
    assert reason in str(raised.value)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 1000


@given(st.text(alphabet=string.printable + "\u212a\0", max_size=40), st.sampled_from([".whl", ".tar.gz", ".zip", ""]))
def test_any_text_is_taken_apart_or_refused(stem, extension):
    try:
        parsed = parse_upload_filename(stem + extension)
    except InvalidFilenameError:
        return
    assert parsed.filename == stem + extension
    assert set(parsed.filename) <= set(string.ascii_letters + string.digits + "._+!-")
    assert normalize(parsed.project) == parsed.project
    assert parsed.has_project(parsed.project.upper())
    assert parsed.has_version(parsed.version)


@pytest.mark.parametrize(
    ("raw", "is_it"),
    [("foo-bar", True), ("Foo_Bar", True), ("foo..bar", True), ("foobar", False), ("", False), ("foo bar", False)],
)
def test_has_project(raw, is_it):
    assert parse_upload_filename("foo_bar-1.0.tar.gz").has_project(raw) is is_it


@pytest.mark.parametrize(
    ("raw", "is_it"),
    [("1.0", True), ("1", True), ("v1.0.0", True), ("1.0.post0", False), ("1.1", False), ("", False), ("one", False)],
)
def test_has_version(raw, is_it):
    assert parse_upload_filename("foo_bar-1.0.tar.gz").has_version(raw) is is_it


@pytest.mark.parametrize(
    ("filename", "project", "version"),
    [
        ("foo-1.0.tar.bz2", "foo", "1.0"),
        ("foo-1.0.tgz", "foo", "1.0"),
        ("foo-bar-1.0.tar.xz", "foo-bar", "1.0"),
        ("foo-2-1.0.tar", "foo-2", "1.0"),
        ("foo-2-1.0.zip", "foo", None),  # "2-1.0" is not a version
        ("foo-1.0-py3-none-any.whl", "foo", "1.0"),
        ("foo-1.00-py3-none-any.whl", "foo", "1.0"),
        ("foo.whl", "foo", None),
        ("foo-1.0.exe", "foo", None),
        ("bar-1.0.zip", "foo", None),
        ("foo.zip", "foo", None),
        (".zip", "foo", None),
    ],
)
def test_version_that_a_stored_file_says(filename, project, version):
    assert version_of(filename, normalize(project)) == version


@pytest.mark.parametrize(
    ("filename", "extension"),
    [("a.tar.gz", ".tar.gz"), ("a.tar.lzma", ".tar.lzma"), ("a.tar", ".tar"), (".tar.gz", None), ("a.txt", None)],
)
def test_extension(filename, extension):
    assert extension_of(filename) == extension


@pytest.mark.parametrize("digits", [255, 256, 4299, 4300, 4301, 100_000])
def test_versions_of_many_digits_are_read_or_refused(digits):
    """Python parses no number over 4,300 digits, and is slow with shorter ones."""
    filename = parse_upload_filename("foo-1.0.tar.gz")
    assert not filename.has_version("1" * digits)
    assert not filename.has_version("1.0+" + "1" * digits)
    assert not filename.has_project("a" * digits)
    assert version_of(f"foo-{'1' * digits}.tar.gz", filename.project) is None
    with pytest.raises(InvalidFilenameError):
        parse_upload_filename(f"foo-{'1' * digits}.tar.gz")
    with pytest.raises(InvalidFilenameError):
        parse_upload_filename(f"foo-1.0-{'1' * digits}-py3-none-any.whl")
