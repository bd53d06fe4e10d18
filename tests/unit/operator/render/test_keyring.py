"""The program `keyring` in every shell that images have: what it answers pip and uv, and which URLs it ignores."""

import json
import subprocess
from pathlib import Path

import pytest

from pywharf_operator.render.objects.client_config import keyring
from support.parts import require

SERVER = "https://pywharf.packages.svc"
URL = f"{SERVER}/repo/team-a/simple/"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJwb2QifQ.c2lnbmF0dXJl-_"
SHELLS = {"dash": ("dash",), "busybox": ("busybox", "ash"), "bash": ("bash", "--posix")}


class Program:
    """The rendered program, run by one shell. Nothing is on its PATH: it starts no program, so the token is in no
    argument list.
    """

    def __init__(self, folder: Path, shell: tuple[str, ...], *urls: str) -> None:
        self.folder = folder
        program = require(shell[0], f"apt-get install {shell[0]}")
        self.command = [str(program), *shell[1:], str(folder / "keyring")]
        (folder / "keyring").write_text(keyring(*urls or (SERVER,)))
        self.token = folder / "token"
        self.token.write_text(TOKEN)

    def __call__(self, *arguments: str | bytes, **env: str) -> tuple[int, str, str]:
        """Return the exit status, what it printed, and what it said on stderr."""
        done = subprocess.run(
            [*self.command, *arguments],
            env={"PYWHARF_TOKEN_FILE": str(self.token), "PATH": "/nonexistent"} | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace")


@pytest.fixture(params=SHELLS)
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Program:
    return Program(tmp_path, SHELLS[request.param])


ANSWERS = {
    "pip without a user": (["--mode=creds", "--output=json", "get", URL], {"username": "__token__", "password": TOKEN}),
    "pip with a user": (["--mode=creds", "--output=json", "get", URL, "me"], {"username": "me", "password": TOKEN}),
    "an older pip": (["get", URL, "me"], f"{TOKEN}\n"),
    "uv without a user": (["get", URL, "--mode", "creds"], f"__token__\n{TOKEN}\n"),
    "uv with a user": (["get", URL, "team-a"], f"{TOKEN}\n"),
    "a script": (["get", URL], f"{TOKEN}\n"),
    "a password as JSON": (["--output", "json", "get", URL, "me"], {"password": TOKEN}),
    "an empty user": (["--mode=creds", "get", URL, ""], f"__token__\n{TOKEN}\n"),
    "without the last slash": (["get", URL[:-1], "me"], f"{TOKEN}\n"),
    "another repo of the server": (["get", f"{SERVER}/repo/team_b.2/simple/", "me"], f"{TOKEN}\n"),
    "a project's page": (["get", f"{URL}numpy/", "me"], f"{TOKEN}\n"),
    "a file": (["get", f"{URL}numpy/numpy-2.0+local-py3-none-any.whl", "me"], f"{TOKEN}\n"),
    "after --": (["--mode=creds", "get", "--", URL], f"__token__\n{TOKEN}\n"),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_it_gives_the_token(program: Program, what: str):
    arguments, expected = ANSWERS[what]
    status, printed, said = program(*arguments)
    assert (status, said) == (0, "")
    assert (json.loads(printed) if isinstance(expected, dict) else printed) == expected


HOSTILE = [
    "http://pywharf.packages.svc/repo/team-a/simple/",
    "HTTPS://pywharf.packages.svc/repo/team-a/simple/",
    "https://PYWHARF.packages.svc/repo/team-a/simple/",
    "https://pywharf.packages.svc:443/repo/team-a/simple/",
    "https://pywharf.packages.svc:8443/repo/team-a/simple/",
    "https://pywharf.packages.svc./repo/team-a/simple/",
    "https://pywharf.packages.svc.cluster.local/repo/team-a/simple/",
    "https://pywharf.packages.svc.evil.example/repo/team-a/simple/",
    "https://pywharf.packages.svcevil/repo/team-a/simple/",
    "https://evil.example/repo/team-a/simple/",
    "https://evil.example/https://pywharf.packages.svc/repo/team-a/simple/",
    "https://evil-pywharf.packages.svc/repo/team-a/simple/",
    "https://pywharf.packages/repo/team-a/simple/",
    "https://pywharf.other.svc/repo/team-a/simple/",
    "https://pywharf-packages.svc/repo/team-a/simple/",
    "https://pywharf.packages.svc@evil.example/repo/team-a/simple/",
    "https://user@pywharf.packages.svc/repo/team-a/simple/",
    "https://user:password@pywharf.packages.svc/repo/team-a/simple/",
    "https://@pywharf.packages.svc/repo/team-a/simple/",
    "https:/pywharf.packages.svc/repo/team-a/simple/",
    "https:pywharf.packages.svc/repo/team-a/simple/",
    "//pywharf.packages.svc/repo/team-a/simple/",
    "pywharf.packages.svc",
    "pywharf.packages.svc:443",
    "https://pywharf.packages.svc",
    "https://pywharf.packages.svc/",
    "https://pywharf.packages.svc/repo/",
    "https://pywharf.packages.svc/repo/team-a",
    "https://pywharf.packages.svc/repo/team-a/",
    "https://pywharf.packages.svc/repo//simple/",
    "https://pywharf.packages.svc//repo/team-a/simple/",
    "https://pywharf.packages.svc/repo/../simple/",
    "https://pywharf.packages.svc/repo/team-a/../../other/simple/",
    "https://pywharf.packages.svc/repo/team-a/simple/../../../other/",
    "https://pywharf.packages.svc/repo/team-a/simple/..",
    "https://pywharf.packages.svc/repo/./team-a/simple/",
    "https://pywharf.packages.svc/repo/team-a/%2e%2e/simple/",
    "https://pywharf.packages.svc/repo/team-a%2fsimple/",
    "https://pywharf.packages.svc/repo/team-a/simplex/",
    "https://pywharf.packages.svc/Repo/team-a/simple/",
    "https://pywharf.packages.svc/other?/repo/team-a/simple/",
    "https://pywharf.packages.svc?/repo/team-a/simple/",
    "https://pywharf.packages.svc#/repo/team-a/simple/",
    "https://pywharf.packages.svc\\@evil.example/repo/team-a/simple/",
    "https://pywharf.packages.svc/repo/team-a/simple/?next=https://evil.example",
    "https://pywharf.packages.svc/repo/team-a/simple/#evil",
    "https://pywharf.packages.svc/repo/team-a/simple/;evil",
    "https://pywharf.packages.svc/repo/team-a/simple/\nhttps://evil.example/",
    " https://pywharf.packages.svc/repo/team-a/simple/",
    "https://pywharf.packages.svc/repo/team-a/simple/ x",
    "https://*/repo/team-a/simple/",
    "https://pywharf?packages.svc/repo/team-a/simple/",
    "https://[::1]/repo/team-a/simple/",
    "$(cat /etc/passwd)",
    f"https://pywharf.packages.svc/repo/team-a/simple/{'a' * 5000}",
    "",
]


def test_the_table_is_as_long_as_it_should_be():
    assert len(set(HOSTILE)) == len(HOSTILE) >= 40


def test_it_says_nothing_to_other_urls(program: Program):
    of_pip = ("--mode=creds", "--output=json")
    answers = {url: program(*of_pip[: 2 * (number % 2)], "get", url, "me") for number, url in enumerate(HOSTILE)}
    assert answers == dict.fromkeys(HOSTILE, (1, "", ""))


USERS = ['a"b', "a\\b", '\\"', "ä ö", "{}", "a/b", "$HOME", "`id`", "%s%n", "'", "*", "a" * 300]


def test_users_are_quoted_as_json_wants(program: Program):
    for user in USERS:
        status, printed, _ = program("--mode=creds", "--output=json", "get", URL, user)
        assert (status, json.loads(printed)) == (0, {"username": user, "password": TOKEN})
    for user in ("a\nb", "a\tb", "a\x7f", "a\x1bb", "a" * 5000):
        assert program("--mode=creds", "--output=json", "get", URL, user) == (1, "", "")


WRONG = {
    "no action": ([], 2),
    "no URL": (["get"], 2),
    "too much": (["get", URL, "me", "more"], 2),
    "an unknown option": (["--backend=x", "get", URL], 2),
    "an unknown mode": (["--mode=raw", "get", URL], 2),
    "an unknown form": (["--output=xml", "get", URL], 2),
    "a mode without a value": (["get", URL, "--mode"], 2),
    "another action": (["diagnose"], 2),
    "storing": (["set", URL, "me"], 1),
    "deleting": (["del", URL, "me"], 1),
}


@pytest.mark.parametrize("what", WRONG)
def test_it_refuses_politely(program: Program, what: str):
    arguments, expected = WRONG[what]
    status, printed, said = program(*arguments)
    assert (status, printed) == (expected, "")
    assert said.startswith(("keyring: ", "usage: keyring "))
    # pip takes these words for those of a keyring that is too old.
    assert "unrecognized arguments" not in said


@pytest.mark.parametrize(
    "content",
    [None, "", "\n", "two words", 'a"b', "a\\b", "a" * 8193, "ä", "a\rb", "a\x00b c"],
    ids=lambda one: repr(one)[:20],
)
def test_it_says_what_is_wrong_with_the_token(program: Program, content: str | None):
    program.token.unlink()
    if content is not None:
        program.token.write_text(content)
    status, printed, said = program("get", URL, "me")
    assert (status, printed) == (1, "")
    assert str(program.token) in said
    assert said.startswith("keyring: ")
    if content and content.strip():
        assert content not in said
    # Others do not learn that there is a token, or none.
    assert program("get", "https://evil.example/simple/", "me") == (1, "", "")


@pytest.mark.parametrize("ending", ["", "\n"])
def test_it_reads_the_file_each_time(program: Program, ending: str):
    for number in range(2):
        program.token.write_text(f"{TOKEN}{number}{ending}")
        assert program("get", URL, "me") == (0, f"{TOKEN}{number}\n", "")


def test_the_environment_names_other_servers(program: Program):
    other = "https://packages.example.com/prefix"
    env = {"PYWHARF_URL": f"{other}/ {SERVER} * ftp://evil.example"}
    assert program("get", f"{other}/repo/team-a/simple/", "me", **env) == (0, f"{TOKEN}\n", "")
    assert program("get", URL, "me", **env) == (0, f"{TOKEN}\n", "")
    assert program("get", "ftp://evil.example/repo/team-a/simple/", "me", **env) == (1, "", "")
    assert program("get", URL, "me", PYWHARF_URL=other) == (1, "", "")


def test_a_program_that_nobody_rendered_gives_it_to_nobody(tmp_path: Path):
    program = Program(tmp_path, SHELLS["dash"], "https://pywharf.invalid")
    assert program("get", URL, "me") == (1, "", "")
