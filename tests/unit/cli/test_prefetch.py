"""`pywharf prefetch`: what it refuses before it asks a server, and that it shows no secret."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pywharf.cli.main import pywharf
from pywharf.cli.repo_client import RepoAddress, credentials_of_netrc, parse_address
from pywharf.core.errors import InvalidConfigError

URL = "http://127.0.0.1:9/repo/team-a/simple/"


def prefetch(*arguments: str) -> Result:
    return CliRunner().invoke(pywharf, ["prefetch", *arguments])


def refused(*arguments: str) -> str:
    result = prefetch(*arguments)
    if result.exit_code == 2:
        return result.output
    assert isinstance(result.exception, InvalidConfigError), result
    return str(result.exception)


@pytest.fixture
def lock(tmp_path: Path) -> str:
    path = tmp_path / "requirements.txt"
    path.write_text("six==1.0\n")
    return f"--lock={path}"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("poetry.lock", b"", "not the name of a lock file"),
        ("uv.lock", b"version = 1\nx = " + b"[" * 100_000, "uv.lock"),
        ("uv.lock", b"\0" * 100, "not valid TOML"),
        ("uv.lock", b'version = 1\n[[package]]\nname = "a"\nsource = 1', "is not a uv.lock"),
        ("pylock.toml", b"\xff", "is not UTF-8"),
        ("requirements.txt", b"!\n", "line 1 is not a requirement"),
    ],
)
def test_bad_locks(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    text = refused(URL, f"--lock={path}")
    assert words in text
    assert len(text) < 1000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--platform=solaris"], "--platform is 'solaris'; write linux"),
        (["--python=2.7"], "--python is '2.7'; write a version"),
        (["--ca=/does/not/exist"], "--ca cannot be read"),
        (["--parallel=0"], "--parallel"),
        (["--secret_env=A", "--secret_file=/b"], "do not go together"),
        (["--secret_env=NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE is empty or not set"),
        (["--secret_file=/does/not/exist"], "--secret_file: its file cannot be read"),
    ],
)
def test_wrong_flags(lock: str, arguments: list[str], words: str) -> None:
    assert words in refused(URL, lock, *arguments)


def test_the_lock_is_required() -> None:
    assert "--lock" in refused(URL)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://h/repo/team-a/simple/", "https://h/repo/team-a"),
        ("https://h/repo/team-a/simple", "https://h/repo/team-a"),
        ("https://h:8443/repo/team-a", "https://h:8443/repo/team-a"),
        ("http://h/below/repo/team-a/simple/", "http://h/below/repo/team-a"),
    ],
)
def test_urls(url: str, base: str) -> None:
    assert parse_address(url) == RepoAddress(base, "team-a")


@pytest.mark.parametrize(
    "url",
    [
        "http://mirror:hidden-word@127.0.0.1/repo/mirror/simple/",
        "ftp://hidden-word/repo/a/simple/",
        "https://h/simple/?hidden-word",
        "https://h/repo/a/simple/?token=hidden-word",
        "https://h/repo/a/simple/#hidden-word",
        "https://h/repo/a/simple/six/hidden-word",
        "hidden-word",
        "--hidden-word",
        "http://[hidden-word/repo/a/simple/",
    ],
)
def test_wrong_urls_are_not_shown(lock: str, url: str) -> None:
    text = refused("--", url) if url.startswith("-") else refused(url, lock)
    assert "hidden-word" not in text


def test_netrc(tmp_path: Path) -> None:
    path = tmp_path / "netrc"
    assert credentials_of_netrc("h", str(path)) is None
    path.write_text("machine h login team-a password secret-word\nmachine empty login a\n")
    assert credentials_of_netrc("h", str(path)) == ("team-a", "secret-word")
    assert credentials_of_netrc("other", str(path)) is None
    path.write_text("machine h login team-a password\nnonsense secret-word\n")
    with pytest.raises(InvalidConfigError) as failed:
        credentials_of_netrc("h", str(path))
    assert "secret-word" not in str(failed.value)
