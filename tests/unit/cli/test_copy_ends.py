"""What `pywharf copy` says of wrong arguments, and how it splits the flags of FROM and TO."""

import click
import pytest

from pywharf.cli.copy_command import copy_command
from pywharf.cli.copy_ends import Wanted, parse_wanted, split_fields
from pywharf.core.errors import InvalidConfigError
from pywharf.core.names import ProjectName

WRONG = [
    ("nowhere file_system:demo --root={root}", "there is no folder 'nowhere'. Give a folder, the URL"),
    ("{packages} demo --root={root}", "TO must be TYPE:NAME"),
    ("{packages} {packages} --root={root}", "TO must be TYPE:NAME"),
    ("{packages} file_sytem:demo --root={root}", "Did you mean file_system?"),
    ("{packages} file_system:demo --root={root} --to_ownr=x", "Did you mean --to_owner?"),
    ("{packages} file_system:demo --root={root} --paralel=3", "Did you mean --parallel?"),
    ("{packages} file_system:demo --root={root} --parallel=99", "from 1 to 32"),
    ("{packages} file_system:demo --root={root} --from_owner=x", "only a repo (TYPE:NAME) has fields"),
    ("{packages} file_system:demo --root={root} --from_user=x", "a folder needs no credentials"),
    ("{packages} file_system:demo --root={root} hunter2", "After FROM and TO come flags only"),
    ("{packages} file_system:demo --root={root}/none", "--to_root: there is no folder"),
    ("{packages} file_system:demo --root={root} --projects=a/b", "--projects holds 'a/b'"),
    ("https://u:hunter2@h.example/simple/ file_system:demo --root={root}", "FROM may hold no user info"),
    ("https://h.example/simple/ file_system:demo --root={root} --from_user=x", "--from_user goes with"),
    ("https://h.example/simple/ file_system:demo --root={root} --from_secret=hunter2", "no flag '--from_secret'"),
    ("https://h.example/simple/ file_system:demo --root={root} --from_secret_env=NONE", "is empty or not set"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path, arguments, says):
    (tmp_path / "packages").mkdir()
    given = arguments.format(root=tmp_path, packages=tmp_path / "packages").split()
    with pytest.raises((InvalidConfigError, click.UsageError)) as raised:
        copy_command.main(given, standalone_mode=False)
    said = str(raised.value)
    assert says in said
    assert "\n" not in said
    assert "hunter2" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["packages"]


def test_fields_are_split_by_their_side(monkeypatch):
    monkeypatch.setenv("PYWHARF_COMMAND_TO_BRANCH", "main")
    monkeypatch.setenv("PYWHARF_COMMAND_TO_ROOT", "a setting, no field")
    arguments = ["--from_owner=acme", "--to-owner", "other", "--to_index-filename=a-b.json", "--from-repo", "x"]
    assert split_fields(arguments) == (
        ["--owner=acme", "--repo", "x"],
        ["--branch=main", "--owner", "other", "--index_filename=a-b.json"],
    )


@pytest.mark.parametrize(
    ("text", "names", "matching", "other"),
    [
        (None, (), "anything", None),
        ("Foo, b_a.r", ("foo", "b-a-r"), "foo", "food"),
        ("acme-*,tool", (), "acme-x", "tools"),
    ],
)
def test_projects(text, names, matching, other):
    wanted = parse_wanted(text)
    assert wanted.names == names
    assert wanted(ProjectName(matching))
    assert other is None or not wanted(ProjectName(other))


def test_no_projects_are_refused():
    with pytest.raises(InvalidConfigError, match="--projects is empty"):
        parse_wanted(" , ")
    assert Wanted().names == ()
