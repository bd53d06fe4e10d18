"""Tests of credentials as users give them to the real tools, without a keyring, and of TLS with a private CA."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pywharf.core.toml_text import dumps
from support.certificates import Certificates, certificates
from support.clients.computer import Computer, Index
from support.clients.installing import INSTALLERS, install
from support.clients.publishing import publish, upload
from support.distributions.projects import source_tree
from support.distributions.wheels import wheel
from support.parts import client
from support.server.repos import Repo, many_repos, table
from support.server.serving import Server, running


@pytest.fixture(scope="module")
def tls(tmp_path_factory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls_repos(tmp_path_factory, tls) -> Iterator[Iterator[Repo]]:
    with many_repos(tmp_path_factory.mktemp("tls"), 40, tls.flags) as made:
        yield made


@pytest.fixture
def tls_repo(tls_repos: Iterator[Repo]) -> Repo:
    return next(tls_repos)


def trusting(computer: Computer, tls: Certificates) -> Computer:
    return replace(computer, env={"SSL_CERT_FILE": str(tls.authority)})


TRUST_TO_INSTALL = [
    # tool, variable that names the CA's file
    ("pip", "SSL_CERT_FILE"),
    ("pip", "PIP_CERT"),
    ("uv", "SSL_CERT_FILE"),
    ("uv-add", "SSL_CERT_FILE"),
    ("poetry", "REQUESTS_CA_BUNDLE"),
    ("pdm", "SSL_CERT_FILE"),
]


@pytest.mark.parametrize(("tool", "variable"), TRUST_TO_INSTALL)
def test_installs_over_tls_by_an_own_authority(
    tls_repo: Repo, computer: Computer, tls: Certificates, tmp_path: Path, tool: str, variable: str
):
    upload(trusting(computer, tls), tls_repo.writing, wheel(tmp_path, "acme"))
    assert tls_repo.reading.url.startswith("https://")

    python, _ = install(tool, computer, tls_repo.reading, "acme", env={variable: str(tls.authority)})

    assert python.installed() == {"acme": "1.0"}


def test_pip_takes_the_authority_as_a_flag(tls_repo: Repo, computer: Computer, tls: Certificates, tmp_path: Path):
    upload(trusting(computer, tls), tls_repo.writing, wheel(tmp_path, "acme"))

    python, _ = install("pip", computer, tls_repo.reading, "--cert", tls.authority, "acme")

    assert python.installed() == {"acme": "1.0"}


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_an_authority_that_is_not_trusted_gets_no_credentials(tls_repo: Repo, computer: Computer, tool: str):
    _, output = install(tool, computer, tls_repo.reading, "acme", fails=True, env={"PIP_RETRIES": "0"})

    assert "certificate" in output.text
    assert tls_repo.served() == []


TRUST_TO_PUBLISH = [
    # tool, builder, variable that names the CA's file
    ("twine", "hatchling", "TWINE_CERT"),
    ("twine", "hatchling", "REQUESTS_CA_BUNDLE"),
    ("uv", "hatchling", "SSL_CERT_FILE"),
    ("poetry", "poetry", "POETRY_CERTIFICATES_WHARF_CERT"),
    ("flit", "flit", "REQUESTS_CA_BUNDLE"),
    ("pdm", "hatchling", "PDM_PUBLISH_CA_CERTS"),
]


@pytest.mark.parametrize("case", TRUST_TO_PUBLISH, ids="-".join)
def test_publishes_over_tls_by_an_own_authority(
    tls_repo: Repo, computer: Computer, tls: Certificates, tmp_path: Path, case: tuple[str, ...]
):
    tool, builder, variable = case
    tree = source_tree(tmp_path / "src", "acme", builder)
    tree.build(computer)

    publish(tool, replace(computer, env={variable: str(tls.authority)}), tree, tls_repo.writing)

    sent = {p.name for p in (tree.folder / "dist").iterdir()}
    assert {p.name for p in (tls_repo.storage / "acme").iterdir()} >= sent


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_what_is_cached_is_not_sent_again(
    tls_repo: Repo, computer: Computer, tls: Certificates, tmp_path: Path, tool: str
):
    """The test uses TLS because pip caches nothing received without it."""
    computer = trusting(computer, tls)
    upload(computer, tls_repo.writing, wheel(tmp_path, "acme"))
    for number in range(3):
        python, _ = install(tool, computer, tls_repo.reading, "acme", into=str(number))
        assert python.installed() == {"acme": "1.0"}

    reads = [s for s in tls_repo.served() if s.method == "GET" and s.status != 401]
    assert sum(s.filename.endswith(".whl") for s in reads) == 1, reads
    assert sum(s.filename.endswith(".metadata") for s in reads) == 1, reads
    assert [s.status for s in reads if s.path.endswith("/acme/")] == [200, 304, 304]


@dataclass(frozen=True)
class Method:
    """How a tool is given the index and its credentials: files in the home, environment variables, arguments."""

    name: str
    arguments: Callable[[Index], tuple[str, ...]] = lambda _: ()
    env: Callable[[Index, Path], Mapping[str, str]] = lambda _, __: {}
    files: Callable[[Index], Mapping[str, str]] = field(default=lambda _: {})


def netrc(index: Index) -> Mapping[str, str]:
    return {".netrc": f"machine 127.0.0.1 login {index.user} password {index.secret}\n"}


PIP = [
    Method("url", lambda index: (f"--index-url={index.with_user}",)),
    Method("netrc", lambda index: (f"--index-url={index.url}",), files=netrc),
    Method("variable", env=lambda index, _: {"PIP_INDEX_URL": index.with_user}),
    Method(
        "pip.conf",
        env=lambda _, home: {"PIP_CONFIG_FILE": str(home / "pip.conf")},
        files=lambda index: {"pip.conf": f"[global]\nindex-url = {index.with_user}\n"},
    ),
    Method(
        "requirements",
        lambda _: ("-r", "requirements.txt"),
        files=lambda index: {"requirements.txt": f"--index-url {index.with_user}\nacme\n"},
    ),
]


def write(computer: Computer, method: Method, index: Index) -> Mapping[str, str]:
    """Write the files into the home and return the environment variables."""
    computer.home.mkdir(parents=True, exist_ok=True)
    for name, content in method.files(index).items():
        (computer.home / name).write_text(content)
        (computer.home / name).chmod(0o600)
    return method.env(index, computer.home)


@pytest.mark.parametrize("method", PIP, ids=lambda method: method.name)
def test_pip_finds_its_credentials(repo: Repo, computer: Computer, tmp_path: Path, method: Method):
    upload(computer, repo.writing, wheel(tmp_path, "acme"))
    env = write(computer, method, repo.reading)
    python = computer.python()

    computer.run("pip", f"--python={python.path}", "install", *method.arguments(repo.reading), "acme", env=env)

    assert python.installed() == {"acme": "1.0"}


UV = [
    Method("url", lambda index: (f"--default-index={index.with_user}",)),
    Method("netrc", lambda index: (f"--default-index={index.url}",), files=netrc),
    Method("variable", env=lambda index, _: {"UV_DEFAULT_INDEX": index.with_user}),
    Method(
        "named",
        lambda index: (f"--default-index=wharf={index.url}",),
        env=lambda index, _: {"UV_INDEX_WHARF_USERNAME": index.user, "UV_INDEX_WHARF_PASSWORD": index.secret},
    ),
    Method(
        "uv.toml",
        lambda _: ("--config-file=uv.toml",),
        files=lambda index: {
            "uv.toml": f"[[index]]\nname = 'wharf'\nurl = {json.dumps(index.with_user)}\ndefault = true\n"
        },
    ),
]


@pytest.mark.parametrize("method", UV, ids=lambda method: method.name)
def test_uv_finds_its_credentials(repo: Repo, computer: Computer, tmp_path: Path, method: Method):
    upload(computer, repo.writing, wheel(tmp_path, "acme"))
    env = write(computer, method, repo.reading)
    python = computer.python()

    computer.run("uv", "pip", "install", f"--python={python.path}", *method.arguments(repo.reading), "acme", env=env)

    assert python.installed() == {"acme": "1.0"}


def pypirc(index: Index) -> Mapping[str, str]:
    servers = "[distutils]\nindex-servers =\n    wharf\n"
    one = f"[wharf]\nrepository = {index.url}\nusername = {index.user}\npassword = {index.secret}\n"
    return {".pypirc": f"{servers}\n{one}"}


PUBLISHING = [
    ("twine", Method("pypirc", lambda _: ("upload", "--repository=wharf"), files=pypirc)),
    (
        "twine",
        Method(
            "variables",
            lambda _: ("upload",),
            env=lambda index, _: {
                "TWINE_REPOSITORY_URL": index.url,
                "TWINE_USERNAME": index.user,
                "TWINE_PASSWORD": index.secret,
            },
        ),
    ),
    (
        "uv",
        Method(
            "variables",
            lambda _: ("publish",),
            env=lambda index, _: {
                "UV_PUBLISH_URL": index.url,
                "UV_PUBLISH_USERNAME": index.user,
                "UV_PUBLISH_PASSWORD": index.secret,
            },
        ),
    ),
    ("uv", Method("url", lambda index: ("publish", f"--publish-url={index.with_user}"))),
    (
        "uv",
        Method(
            "netrc",
            lambda index: ("publish", "--trusted-publishing=never", f"--publish-url={index.url}"),
            files=netrc,
        ),
    ),
]


@pytest.mark.parametrize(("tool", "method"), PUBLISHING, ids=lambda part: getattr(part, "name", part))
def test_publishers_find_their_credentials(repo: Repo, computer: Computer, tmp_path: Path, tool: str, method: Method):
    file = wheel(tmp_path, "acme")
    env = write(computer, method, repo.writing)

    computer.run(tool, *method.arguments(repo.writing), file, env=env)

    assert (repo.storage / "acme" / file.name).exists()


@pytest.mark.parametrize("tool", INSTALLERS)
@pytest.mark.parametrize("given", ["wrong", "none"])
def test_without_the_right_credentials_nothing_is_installed(
    repo: Repo, computer: Computer, tmp_path: Path, tool: str, given: str
):
    upload(computer, repo.writing, wheel(tmp_path, "acme"))
    index = replace(repo.reading, secret="no-such-secret" if given == "wrong" else "")
    if given == "none" and tool in {"pip", "uv"}:
        python = computer.python()
        command = python.pip_install(index.url) if tool == "pip" else python.uv_install(index.url)
        output = command.run(computer, "acme", fails=True)
    else:
        python, output = install(tool, computer, index, "acme", fails=True)

    reads = [s for s in repo.served() if s.method == "GET"]
    assert reads, output.text
    assert {s.status for s in reads} == {401}, reads


ODD = [
    ("signs", "p@ss:w/o%20r#d?&+=;!~$[]{}|^`'"),
    ("spaces", "  two  words  "),
    ("letters", "naïve-Zürich"),
    ("long", "x" * 2000),
]
SCRIPTS = "密码-пароль-🔑"


@pytest.fixture(scope="module")
def odd_server(tmp_path_factory) -> Iterator[Server]:
    """Yield a server with repos that have unusual write secrets, and with one that anybody may read."""
    config = dumps(
        {name: {"type": "file_system", "write_secret": secret} for name, secret in [*ODD, ("scripts", SCRIPTS)]}
    )
    config += table("open", "anonymous_read = true")
    with running(tmp_path_factory.mktemp("odd"), ["--access_log=json"], config=config) as server:
        yield server


@pytest.mark.parametrize(("name", "secret"), ODD, ids=[name for name, _ in ODD])
def test_a_secret_may_hold_any_character(
    odd_server: Server, computer: Computer, tmp_path: Path, name: str, secret: str
):
    index = Index(f"{odd_server.url}/repo/{name}/simple/", name, secret)
    by_uv, by_twine = wheel(tmp_path, "by-uv"), wheel(tmp_path, "by-twine")
    upload(computer, index, by_uv)
    named = {"TWINE_USERNAME": name, "TWINE_PASSWORD": secret, "TWINE_REPOSITORY_URL": index.url}
    computer.run("twine", "upload", by_twine, env=named)

    for tool in ("pip", "uv", "poetry"):
        python, _ = install(tool, computer, index, "by-uv", "by-twine", into=tool)
        assert python.installed() == {"by-uv": "1.0", "by-twine": "1.0"}


def test_a_secret_may_be_of_any_script_for_tools_that_send_it(odd_server: Server, computer: Computer, tmp_path: Path):
    """Only uv is tested: pip, twine and poetry fail before they send a secret that is not Latin-1."""
    index = Index(f"{odd_server.url}/repo/scripts/simple/", "scripts", SCRIPTS)
    upload(computer, index, wheel(tmp_path, "acme"))

    python, _ = install("uv", computer, index, "acme")

    assert python.installed() == {"acme": "1.0"}


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_repo_may_be_read_by_anybody(odd_server: Server, computer: Computer, tmp_path: Path, tool: str):
    index = Index(f"{odd_server.url}/repo/open/simple/", "open", "open-write")
    project = f"open-{tool}"
    upload(computer, index, wheel(tmp_path, project))
    python = computer.python()

    command = python.pip_install(index.url) if tool == "pip" else python.uv_install(index.url)
    command.run(computer, project)

    assert python.installed() == {project: "1.0"}
    named = (f"--publish-url={index.url}", wheel(tmp_path, project, "2.0"))
    output = computer.run("uv", "publish", "--trusted-publishing=never", *named, fails=True)
    assert "401" in output.text or "credentials" in output.text, output.text


def test_the_client_tools_have_no_keyring(computer: Computer):
    """Otherwise a test could pass with credentials that another test stored there."""
    output = computer.run_program(client("keyring"), "--list-backends")
    assert "null.Keyring" in output.text or "fail" in output.text
