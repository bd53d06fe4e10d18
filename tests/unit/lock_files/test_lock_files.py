"""Lock files of each format: what they pin, and that odd or hostile ones are refused with their name."""

from pathlib import Path

import pytest

from pywharf.core.errors import InvalidConfigError
from pywharf.core.names import ProjectName
from pywharf.lock_files import Lock, LockedFile, Note, Pin, read_lock
from pywharf.lock_files.pins import MAX_FILES_OF_PIN, MAX_PINS

SIX = ProjectName("six")
A, B = "a" * 64, "b" * 64
INDEX = "https://packages.example/repo/team-a/simple/"
SDIST = "https://files.example/six-1.17.tar.gz"
UV = f"""
version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "six"
version = "1.17"
source = {{ registry = "{INDEX}" }}
sdist = {{ url = "{SDIST}", hash = "sha256:{A}", size = 1, upload-time = "2024-12-04T17:35:28.174Z" }}
wheels = [
    {{ url = "https://files.example/six-1.17-py2.py3-none-any.whl#x", hash = "sha256:{B.upper()}" }},
]

[[package]]
name = "acme"
version = "1.0"
source = {{ git = "https://git.example/acme?rev=1#abc" }}

[[package]]
name = "app"
version = "0.1"
source = {{ editable = "." }}
"""
PYLOCK = f"""
lock-version = "1.0"
created-by = "uv"

[[packages]]
name = "six"
version = "1.17"
index = "{INDEX}"
sdist = {{ url = "{SDIST}", upload-time = 2024-12-04T17:35:28Z, hashes = {{ sha256 = "{A}" }} }}
wheels = [{{ name = "six-1.17-py2.py3-none-any.whl", path = "x.whl", hashes = {{ md5 = "0", sha256 = "{B}" }} }}]

[[packages]]
name = "acme"
vcs = {{ type = "git", url = "https://git.example/acme", commit-id = "abc" }}

[[packages]]
name = "app"
directory = {{ path = ".", editable = true }}
"""
REQUIREMENTS = f"""
# made by a tool
--index-url https://packages.example/simple
six==1.17 \\
    --hash=sha256:{A} \\
    --hash sha256:{B.upper()} --hash=md5:0
    # via app
Foo.Bar[extra] === 1.0 ; python_version >= "3"  # why
numpy>=2
pandas==2.*
torch==2.0,!=2.1
acme @ https://files.example/acme-1.0.tar.gz
-e ./app
./app-1.0.whl
https://files.example/b-1.0.tar.gz
-r other.txt
\\
"""


def read(path: Path, text: str | bytes) -> Lock:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_lock(path)


def test_uv_lock(tmp_path: Path) -> None:
    assert read(tmp_path / "uv.lock", UV) == Lock(
        (
            Pin(
                SIX,
                "1.17",
                (
                    LockedFile("six-1.17.tar.gz", A, "2024-12-04T17:35:28.174Z", SDIST, 1),
                    LockedFile(
                        "six-1.17-py2.py3-none-any.whl",
                        B,
                        None,
                        "https://files.example/six-1.17-py2.py3-none-any.whl#x",
                    ),
                ),
                INDEX,
            ),
        ),
        (Note("acme", "does not come from an index"),),
    )


@pytest.mark.parametrize("name", ["pylock.toml", "pylock.dev.toml"])
def test_pylock(tmp_path: Path, name: str) -> None:
    found = read(tmp_path / name, PYLOCK)
    [pin] = found.pins
    assert (pin.project, pin.version, pin.index) == ("six", "1.17", INDEX)
    assert [(file.filename, file.sha256, file.upload_time) for file in pin.files] == [
        ("six-1.17-py2.py3-none-any.whl", B, None),
        ("six-1.17.tar.gz", A, "2024-12-04T17:35:28+00:00"),
    ]
    assert found.notes == (Note("acme", "does not come from an index"),)


@pytest.mark.parametrize("name", ["requirements.txt", "constraints.in"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_requirements(tmp_path: Path, name: str, line_end: str) -> None:
    found = read(tmp_path / name, "\ufeff" + REQUIREMENTS.replace("\n", line_end))
    assert found.pins[:3] == (
        Pin(SIX, "1.17", (LockedFile(sha256=A), LockedFile(sha256=B))),
        Pin(ProjectName("foo-bar"), "1.0"),
        Pin(ProjectName("torch"), "2.0"),
    )
    assert [(pin.project, pin.version, pin.direct) for pin in found.pins[3:]] == [
        ("acme", "1.0", True),
        ("b", "1.0", True),
    ]
    assert [(note.what, note.is_direct_pin) for note in found.notes] == [
        ("numpy>=2", False),
        ("pandas==2.*", False),
        ("acme @ https://files.example/acme-1.0.tar.gz", True),
        ("-e ./app", False),
        ("./app-1.0.whl", False),
        ("https://files.example/b-1.0.tar.gz", True),
        ("-r other.txt", False),
    ]
    assert found.notes[0].sentence("kept") == "'numpy>=2' is not pinned to one version, so it is not kept"


PACKAGE = '[[package]]\nname = "NAME"\nversion = "VERSION"\nsource = { registry = "https://i.example/" }\n'


def package(name: str = "six", version: str = "1.0") -> str:
    return PACKAGE.replace("NAME", name).replace("VERSION", version)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("poetry.lock", "", "'poetry.lock' is not the name of a lock file that can be read: uv.lock"),
        ("uv.lock", "", "is not a uv.lock: .*version"),
        ("uv.lock", "version = 2", "has the version 2"),
        ("uv.lock", "version = [", "is not valid TOML"),
        ("uv.lock", b"\xff", r"is not UTF-8 \(byte 0\)"),
        ("uv.lock", "version = 1\npackage = 1", "is not a uv.lock"),
        ("uv.lock", "version = 1\n" + package("a/../b"), "uv.lock: .*not a valid project name"),
        ("uv.lock", "version = 1\n" + package(version="one"), "'one' of 'six' is not a version"),
        ("uv.lock", "version = 1\n" + package(version="1" * 5000), "'six' is over 255 characters"),
        ("uv.lock", "version = 1\n" + package().replace("version =", "versions ="), "'six' has no version"),
        ("uv.lock", "version = 1\nx = " + "[" * 100_000, "nested too deeply|not valid TOML"),
        ("pylock.toml", "", "is not a pylock.toml"),
        ("pylock.toml", 'lock-version = "9.0"\ncreated-by = "x"\npackages = []', "is not a pylock.toml"),
        ("requirements.txt", "six == ", "line 1 is not a requirement"),
        ("requirements.txt", "\n" * 7 + "!", "line 8 is not a requirement: '!'"),
        ("requirements.txt", "six==" + "1" * 2_000_000, "line 1 is over"),
        ("requirements.txt", "six==" + "1" * 9_000, "line 1 has a requirement over 4096 characters"),
        ("requirements.txt", "six" + " " * 500_000 + "!" * 9_000, "line 1 has a requirement over 4096 characters"),
        ("requirements.txt", "six===one", "'one' of 'six' is not a version"),
        ("requirements.txt", "six==1\n" * (MAX_PINS + 1), f"it pins more than {MAX_PINS} releases"),
        (
            "requirements.txt",
            "six==1" + "".join(f" --hash=sha256:{number:064}" for number in range(MAX_FILES_OF_PIN + 1)),
            f"'six' has more than {MAX_FILES_OF_PIN} files",
        ),
        ("requirements.txt", " " * (32 * 1024**2 + 1), "is larger than"),
    ],
)
def test_a_bad_lock_file(tmp_path: Path, name: str, text: str | bytes, words: str) -> None:
    with pytest.raises(InvalidConfigError, match=words):
        read(tmp_path / name, text)


def test_a_lock_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match="cannot be read"):
        read_lock(tmp_path / "uv.lock")
