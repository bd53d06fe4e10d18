"""Check how tests find the programs that they need."""

from pathlib import Path

import pytest

from support.parts import CLIENTS, client, require


def test_require_finds_the_first_name():
    assert require("no-such-program", "", "sh").name == "sh"


def test_client_is_of_the_locked_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(CLIENTS, str(tmp_path))
    (tmp_path / "pip").touch()
    assert client("pip") == Path(tmp_path, "pip")
    with pytest.raises(pytest.skip.Exception, match="needs the client twine"):
        client("twine")
