"""Tests of two repos on one server and one computer's caches: no tool ever mixes up their files or credentials.

Clients key caches and credentials by URL, which is why each repo has its own address. All tests use TLS, because pip
caches nothing received without it.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.certificates import Certificates, certificates
from support.clients.computer import Computer, Index
from support.clients.installing import INSTALLERS, install
from support.clients.publishing import upload
from support.distributions.wheels import sdist, wheel
from support.parts import client
from support.server.recorder import Recorder, recording
from support.server.repos import table
from support.server.serving import Server, running

NAMES = ("one", "two")
ORDERS = [NAMES * 3, NAMES[::-1] * 3, ("one", "one", "two", "two", "one")]


@pytest.fixture(scope="module")
def tls(tmp_path_factory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """Yield a server whose two repos hold `acme` 1.0, the sdist `acme-src` 1.0 and one project that the other lacks."""
    folder = tmp_path_factory.mktemp("isolation")
    with running(folder, ["--access_log=json"], config="".join(table(name) for name in NAMES)) as server:
        for name in NAMES:
            files = folder / name
            files.mkdir()
            index = Index(f"{server.url}/repo/{name}/simple/", name, f"{name}-write")
            payload = f"VALUE = {name!r}\n".encode()
            made = [wheel(files, "acme", payload=payload), wheel(files, f"only-{name}", payload=payload)]
            upload(Computer(folder / "home"), index, *made, source(files, payload))
        yield server


def source(folder: Path, payload: bytes) -> Path:
    """Build a project that exists only as an sdist."""
    pyproject = b"""
[build-system]
requires = ["flit_core"]
build-backend = "flit_core.buildapi"
[project]
name = "acme-src"
version = "1.0"
description = "Made for a test"
"""
    members = {"acme_src-1.0/pyproject.toml": pyproject, "acme_src-1.0/acme_src.py": payload}
    return sdist(folder, "acme-src", members=members)


@pytest.fixture
def unjudged(server: Server, tls: Certificates) -> Iterator[Recorder]:
    with recording(server.url, tls.server_context()) as recorder:
        yield recorder


@pytest.fixture
def recorder(unjudged: Recorder) -> Iterator[Recorder]:
    """Yield the recorder. Afterwards, check that no credentials were sent to the wrong repo."""
    yield unjudged
    check_credentials(unjudged)


@pytest.fixture
def computer(tmp_path: Path, tls: Certificates) -> Computer:
    trust = {"SSL_CERT_FILE": str(tls.authority), "REQUESTS_CA_BUNDLE": str(tls.authority)}
    return Computer(tmp_path / "home", trust)


def check_credentials(recorder: Recorder) -> None:
    assert recorder.requests
    mixed = [
        r
        for r in recorder.requests
        for other in NAMES
        if not r.path.startswith(f"/repo/{other}/") and (r.user == other or r.secret == f"{other}-read")
    ]
    assert not mixed, "credentials of one repo were sent to the other"


def index_of(recorder: Recorder, name: str) -> Index:
    return Index(f"{recorder.url}/repo/{name}/simple/", name, f"{name}-read")


@pytest.mark.parametrize("order", ORDERS, ids=[",".join(order) for order in ORDERS])
@pytest.mark.parametrize("tool", ["pip", "uv", "uv-add"])
def test_the_same_name_and_version_is_each_repo_s_own(
    recorder: Recorder, computer: Computer, tool: str, order: tuple[str, ...]
):
    for number, name in enumerate(order):
        python, _ = install(tool, computer, index_of(recorder, name), "acme==1.0", into=f"{number}-{name}")
        assert python.value("acme") == name, order[: number + 1]

    # The caches are shared and used: each repo sent its file once.
    for name in NAMES:
        sent = [r for r in recorder.requests if r.path.startswith(f"/repo/{name}/") and r.path.endswith(".whl")]
        assert [r.status for r in sent if r.status != 401] == [200], recorder.requests


@pytest.mark.parametrize("tool", ["poetry", "pdm"])
def test_the_same_name_and_version_is_each_repo_s_own_for_projects(recorder: Recorder, computer: Computer, tool: str):
    for number, name in enumerate(NAMES * 2):
        python, _ = install(tool, computer, index_of(recorder, name), "acme==1.0", into=f"{number}-{name}")
        assert python.value("acme") == name


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_what_a_tool_builds_of_an_sdist_is_each_repo_s_own(
    recorder: Recorder, computer: Computer, tmp_path: Path, tool: str
):
    """Tools cache the wheel that they build. The clients' interpreter has the build backend."""
    for number, name in enumerate(NAMES * 2):
        target = tmp_path / f"{number}-{name}"
        arguments = ("install", "--no-build-isolation", f"--target={target}", "acme-src")
        index = index_of(recorder, name).with_user
        if tool == "pip":
            computer.run("pip", *arguments, f"--index-url={index}")
        else:
            computer.run("uv", "pip", *arguments, f"--python={client('python')}", f"--default-index={index}")
        assert (target / "acme_src.py").read_text() == f"VALUE = {name!r}\n"


@pytest.mark.parametrize("first", NAMES)
@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_two_repos_in_one_command_get_each_its_own_credentials(
    recorder: Recorder, computer: Computer, tool: str, first: str
):
    second = next(name for name in NAMES if name != first)
    python = computer.python()
    main, extra = index_of(recorder, first).with_user, index_of(recorder, second).with_user
    command = python.pip_install(main) if tool == "pip" else python.uv_install(main)

    command.run(computer, "--extra-index-url" if tool == "pip" else "--index", extra, "only-one", "only-two")

    assert python.installed() == {"only-one": "1.0", "only-two": "1.0"}
    assert (python.value("only_one"), python.value("only_two")) == ("one", "two")


def test_uv_project_with_two_repos_pins_each_dependency_to_its_own(recorder: Recorder, computer: Computer):
    """Sources are given by name, credentials by variables. A second computer then installs from the lock alone."""
    folder = computer.home / "project"
    folder.mkdir(parents=True)
    indexes = "".join(
        f'[[tool.uv.index]]\nname = "{name}"\nurl = "{index_of(recorder, name).url}"\nexplicit = true\n'
        for name in NAMES
    )
    sources = "".join(f'only-{name} = {{ index = "{name}" }}\n' for name in NAMES)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "consumer"\nversion = "1.0"\nrequires-python = ">=3.11"\n'
        f'dependencies = ["only-one", "only-two"]\n[tool.uv.sources]\n{sources}{indexes}'
    )
    env: dict[str, str] = {}
    for name in NAMES:
        env |= {f"UV_INDEX_{name.upper()}_USERNAME": name, f"UV_INDEX_{name.upper()}_PASSWORD": f"{name}-read"}

    computer.run("uv", "sync", cwd=folder, env=env)
    fresh = replace(computer, home=computer.home / "other")
    fresh.run("uv", "sync", "--locked", "--reinstall", cwd=folder, env=env)

    lock = (folder / "uv.lock").read_text()
    for name in NAMES:
        assert index_of(recorder, name).url in lock
        assert f"{name}-read" not in lock


@pytest.mark.parametrize("owner", NAMES)
@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_one_repo_s_credentials_do_not_open_the_other(unjudged: Recorder, computer: Computer, tool: str, owner: str):
    """A netrc is keyed by host, so it can name only one repo. The other repo stays closed."""
    other = next(name for name in NAMES if name != owner)
    computer.home.mkdir()
    netrc = computer.home / ".netrc"
    netrc.write_text(f"machine 127.0.0.1 login {owner} password {owner}-read\n")
    netrc.chmod(0o600)
    for name, fails in ((owner, False), (other, True), (owner, False)):
        python = computer.python(f"env-{len(unjudged.requests)}")
        url = index_of(unjudged, name).url
        command = python.pip_install(url) if tool == "pip" else python.uv_install(url)
        command.run(computer, "acme", fails=fails)
        assert python.installed() == ({} if fails else {"acme": "1.0"})
    answers = {r.status for r in unjudged.requests if r.path.startswith(f"/repo/{other}/")}
    assert answers == {401}


def test_every_tool_has_a_case():
    assert {"pip", "uv", "uv-add", "poetry", "pdm"} == set(INSTALLERS)
