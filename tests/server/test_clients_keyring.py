"""What `spec.clientConfig` gives to pods, with the real tools over TLS: the rendered files, and a token in a file.

The files name the server's Service and the folder of the mount; here both are replaced.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pywharf.config.repo_config import FileSystemSpec
from pywharf.core.access.tokens import digest_of, new_token
from pywharf_operator.local.folder import snapshot_of
from pywharf_operator.render import Environment, render_server, resolve
from pywharf_operator.render.objects.client_config import FOLDER, keyring
from support.certificates import certificates
from support.clients.computer import Computer
from support.distributions.projects import source_tree
from support.distributions.wheels import wheel
from support.operator.manifest_text import parsed_each
from support.server.serving import Server, running

TOKEN, OTHERS_TOKEN = new_token(), new_token()
REPO = "team-a"
SERVICE = "https://pywharf.packages.svc"
CONFIG = f"""
[{REPO}]
type = "file_system"
read_secret = "{REPO}-read"
write_secret = "{REPO}-write"
[[{REPO}.access]]
name = "pods"
permission = "Publish"
token_digests = ["{digest_of(TOKEN)}"]

[other]
type = "file_system"
read_secret = "other-read"
write_secret = "other-write"
"""


def rendered_files(authority: str) -> dict[str, str]:
    """Return what the operator writes for a server with that authority."""
    named = {"namespace": "packages"}
    of_server = {"storage": {"size": "1Gi"}, "tls": {"secretRef": {"name": "tls"}}}
    of_repo = {
        "backend": {"fileSystem": {}},
        "credentials": {"anonymousRead": True, "readOnly": True},
        "clientConfig": {"configMap": "clients"},
    }
    manifests: list[dict[str, Any]] = [
        {"kind": "PackageServer", "metadata": {"name": "pywharf", **named}, "spec": of_server},
        {"kind": "PackageRepo", "metadata": {"name": REPO, **named}, "spec": of_repo},
    ]
    manifests = [{"apiVersion": "pywharf.dev/v1alpha1"} | one for one in manifests]
    secret = {"kind": "Secret", "metadata": {"name": "tls", **named}, "stringData": {"ca.crt": authority}}
    manifests.append({"apiVersion": "v1"} | secret)
    environment = Environment(specs={"file_system": FileSystemSpec})
    (verdict,) = resolve(snapshot_of(parsed_each(*map(json.dumps, manifests))), environment).servers
    (config_map,) = render_server(verdict, environment).client_configs.values()
    files: dict[str, str] = config_map["data"]
    return files


@dataclass(frozen=True)
class Pod:
    """A computer with the files and a token's file, as a pod has them."""

    computer: Computer
    server: Server
    token: Path
    folder: Path

    @property
    def url(self) -> str:
        return self.server.repo(REPO)

    def run(self, tool: str, *arguments: str | Path, fails: bool = False, env: Mapping[str, str] | None = None) -> str:
        return self.computer.run(tool, *arguments, fails=fails, env=env or {}).text


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[tuple[Server, str]]:
    folder = tmp_path_factory.mktemp("keyring")
    tls = certificates(folder / "tls")
    with running(folder / "server", tls.flags, config=CONFIG) as server:
        server.secrets |= {TOKEN, OTHERS_TOKEN}
        yield server, tls.authority.read_text()


@pytest.fixture
def pod(server: tuple[Server, str], computer: Computer, tmp_path: Path) -> Pod:
    running_server, authority = server
    folder, token = tmp_path / "mount", tmp_path / "token"
    folder.mkdir()
    for name, text in rendered_files(authority).items():
        (folder / name).write_text(text.replace(SERVICE, running_server.url).replace(FOLDER, str(folder)))
        (folder / name).chmod(0o555)
    token.write_text(TOKEN)
    env = {
        "PATH": f"{folder}:{computer.environment({})['PATH']}",
        "PIP_CONFIG_FILE": str(folder / "pip.conf"),
        "UV_CONFIG_FILE": str(folder / "uv.toml"),
        "SSL_CERT_FILE": str(folder / "ca.crt"),
        "PYWHARF_TOKEN_FILE": str(token),
    }
    return Pod(replace(computer, env=env), running_server, token, folder)


def publish(pod: Pod, name: str, folder: Path) -> None:
    pod.run("uv", "publish", "--username=__token__", wheel(folder, name))


def test_pip_installs(pod: Pod, tmp_path: Path):
    publish(pod, "by-pip", tmp_path)
    python = pod.computer.python()
    pod.run("pip", f"--python={python.path}", "install", "--no-input", "by-pip", env={"SSL_CERT_FILE": ""})
    assert python.installed() == {"by-pip": "1.0"}


def test_uv_installs_and_publishes(pod: Pod, tmp_path: Path):
    publish(pod, "by-uv", tmp_path)
    python = pod.computer.python()
    pod.run("uv", "pip", "install", f"--python={python.path}", "by-uv")
    assert python.installed() == {"by-uv": "1.0"}


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_token_of_nobody_is_refused_and_the_next_one_works(pod: Pod, tmp_path: Path, tool: str):
    publish(pod, f"renewed-{tool}", tmp_path)
    python = pod.computer.python()
    command = {
        "pip": ("pip", f"--python={python.path}", "install", "--no-input", "--retries=0", f"renewed-{tool}"),
        "uv": ("uv", "pip", "install", f"--python={python.path}", f"renewed-{tool}"),
    }[tool]
    pod.token.write_text(OTHERS_TOKEN)
    assert OTHERS_TOKEN not in pod.run(*command, fails=True)
    pod.token.write_text(TOKEN)
    pod.run(*command)
    assert python.installed() == {f"renewed-{tool}": "1.0"}


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_another_index_gets_no_token(pod: Pod, tmp_path: Path, tool: str):
    """The same server under another address, as an index of somebody else's would be."""
    publish(pod, f"ours-{tool}", tmp_path)
    url = pod.url.replace("127.0.0.1", "localhost")
    python = pod.computer.python()
    commands = {
        "pip": ("pip", f"--python={python.path}", "install", "--no-input", "--retries=0", f"--index-url={url}", "acme"),
        "uv": ("uv", "pip", "install", f"--python={python.path}", f"--default-index={url}", "acme"),
    }
    lines = pod.server.settled_text().splitlines()
    assert "subject='token:" in lines[-1]
    before = len(lines)
    text = pod.run(*commands[tool], fails=True)
    assert "401" in text or "authentication" in text.lower() or "No matching distribution" in text
    lines = pod.server.settled_text().splitlines()[before:]
    assert all("subject=- " in line for line in lines if "/repo/" in line)


def test_twine_publishes_as_the_docs_say(pod: Pod, tmp_path: Path):
    made = wheel(tmp_path, "by-twine")
    env = {
        "TWINE_USERNAME": "__token__",
        "TWINE_PASSWORD": pod.token.read_text(),
        "TWINE_CERT": str(pod.folder / "ca.crt"),
    }
    pod.run("twine", "upload", "--non-interactive", f"--repository-url={pod.url}", made, env=env)


def test_poetry_installs_as_the_docs_say(pod: Pod, tmp_path: Path):
    publish(pod, "by-poetry", tmp_path)
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "p"\nversion = "0"\nrequires-python = ">=3.11"\n[tool.poetry]\npackage-mode = false\n'
        f'[[tool.poetry.source]]\nname = "{REPO}"\nurl = "{pod.url}"\npriority = "primary"\n'
    )
    env = {
        "POETRY_HTTP_BASIC_TEAM_A_USERNAME": "__token__",
        "POETRY_HTTP_BASIC_TEAM_A_PASSWORD": pod.token.read_text(),
        "POETRY_CERTIFICATES_TEAM_A_CERT": str(pod.folder / "ca.crt"),
        "POETRY_VIRTUALENVS_IN_PROJECT": "true",
        "SSL_CERT_FILE": "",
    }
    pod.computer.run("poetry", "add", "--no-interaction", "by-poetry", cwd=project, env=env)


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_variables_are_enough_for_an_image_that_has_the_program(pod: Pod, tmp_path: Path, tool: str):
    publish(pod, f"baked-{tool}", tmp_path)
    scheme, _, rest = pod.url.partition("://")
    baked = {
        "PYWHARF_URL": pod.server.url,
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": pod.url,
        "PIP_KEYRING_PROVIDER": "subprocess",
        "UV_NO_CONFIG": "1",
        "UV_DEFAULT_INDEX": f"{scheme}://__token__@{rest}",
        "UV_KEYRING_PROVIDER": "subprocess",
    }
    (pod.folder / "keyring").chmod(0o755)
    (pod.folder / "keyring").write_text(keyring("https://pywharf.invalid"))
    env = {name: value for name, value in pod.computer.env.items() if name != "UV_CONFIG_FILE"} | baked
    computer = replace(pod.computer, env=env)
    python = computer.python()
    commands = {
        "pip": ("pip", f"--python={python.path}", "install", "--no-input", f"baked-{tool}"),
        "uv": ("uv", "pip", "install", f"--python={python.path}", f"baked-{tool}"),
    }
    computer.run(*commands[tool])
    assert python.installed() == {f"baked-{tool}": "1.0"}


def test_uv_publishes_a_named_index_of_a_project(pod: Pod, tmp_path: Path):
    """Without the file for uv: the index of a project, and the token by the variable that the docs name."""
    url = pod.url
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "p"\nversion = "0"\n'
        f'[[tool.uv.index]]\nname = "wharf"\nurl = "{url}"\npublish-url = "{url}"\n'
    )
    env = {name: value for name, value in pod.computer.env.items() if name != "UV_CONFIG_FILE"}
    env |= {"UV_PUBLISH_TOKEN": pod.token.read_text()}
    made = wheel(tmp_path, "by-index")
    replace(pod.computer, env=env).run("uv", "publish", "--index=wharf", made, cwd=tmp_path)


def test_poetry_publishes_as_the_docs_say(pod: Pod, tmp_path: Path):
    tree = source_tree(tmp_path / "tree", "by-poetry-itself", "poetry")
    (tree.folder / "dist").mkdir(exist_ok=True)
    wheel(tree.folder / "dist", "by-poetry-itself")
    env = {
        "POETRY_REPOSITORIES_WHEELS_URL": pod.url,
        "POETRY_HTTP_BASIC_WHEELS_USERNAME": "__token__",
        "POETRY_HTTP_BASIC_WHEELS_PASSWORD": pod.token.read_text(),
        "POETRY_CERTIFICATES_WHEELS_CERT": str(pod.folder / "ca.crt"),
        "SSL_CERT_FILE": "",
    }
    pod.computer.run("poetry", "publish", "--no-interaction", "--repository=wheels", cwd=tree.folder, env=env)
