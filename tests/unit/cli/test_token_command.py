"""Tests of `pywharf token new` and `pywharf token digest`."""

import json

import pytest
from click.testing import CliRunner, Result

from pywharf.cli.main import pywharf
from pywharf.core.access.tokens import digest_of, has_checksum, new_token
from pywharf.core.errors import InvalidConfigError


def run(*arguments: str, given: str | bytes | None = None) -> Result:
    return CliRunner().invoke(pywharf, ["token", *arguments], input=given)


def test_new_prints_the_token_alone_on_stdout():
    result = run("new")
    token, end, rest = result.stdout.partition("\n")
    assert (result.exit_code, end, rest) == (0, "\n", "")
    assert has_checksum(token)
    assert result.stderr == f"{digest_of(token)}\n"
    assert run("new").stdout != result.stdout


def test_new_as_json():
    result = run("new", "--json")
    printed = json.loads(result.stdout)
    assert printed == {"token": printed["token"], "digest": digest_of(printed["token"])}
    assert result.stderr == ""


@pytest.mark.parametrize("form", ["{}", "{}\n", "\ufeff{}\r\n", "  {}\t\n\n"])
@pytest.mark.parametrize("from_file", [False, True])
def test_digest(tmp_path, form, from_file):
    token = new_token()
    file = tmp_path / "token"
    file.write_bytes(form.format(token).encode())
    result = run("digest", f"--file={file}") if from_file else run("digest", given=file.read_bytes())
    assert (result.exit_code, result.stdout) == (0, f"{digest_of(token)}\n")
    as_json = run("digest", "--json", f"--file={file}")
    assert json.loads(as_json.stdout) == {"digest": digest_of(token)}


@pytest.mark.parametrize("wrong", ["", "sesame", "pywharf_" + "0" * 49, "x" * 5000, b"\xff\xfe", "two\nlines"])
def test_digest_tells_a_typo_without_repeating_it(wrong):
    result = run("digest", given=wrong)
    assert isinstance(result.exception, InvalidConfigError)
    assert "mistyped" in str(result.exception)
    assert not wrong or str(wrong) not in str(result.exception)
    assert result.stdout == ""


def test_no_token_is_taken_as_an_argument():
    token = new_token()
    result = run("digest", token)
    assert isinstance(result.exception, InvalidConfigError)
    assert "standard input" in str(result.exception)
    assert token not in f"{result.exception}{result.output}"


def test_a_missing_file_is_told(tmp_path):
    result = run("digest", f"--file={tmp_path / 'none'}")
    assert isinstance(result.exception, InvalidConfigError)
    assert "cannot be read: No such file" in str(result.exception)
