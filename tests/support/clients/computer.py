"""A user's computer: a separate home in which the real client tools run, isolated from this machine's settings."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, urlsplit

from packaging.utils import canonicalize_name

from support.parts import client

TIMEOUT_S = 100.0
NOBODY = "http://127.0.0.1:9"
"""A proxy that does not exist, so that every fetch from beyond this machine fails immediately."""


@dataclass(frozen=True)
class Output:
    """A command's status and output; `text` is stdout followed by stderr."""

    status: int
    text: str
    stdout: str


@dataclass(frozen=True)
class Computer:
    """A computer. `home` keeps the caches, so two tools of one computer share them as a user's tools do."""

    home: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def run(
        self,
        tool: str,
        *arguments: str | Path,
        fails: bool = False,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Output:
        """Run a tool of the locked environment and assert that it succeeds (with `fails`: that it fails)."""
        return self.run_program(client(tool), *arguments, fails=fails, cwd=cwd, env=env)

    def run_program(
        self,
        program: Path,
        *arguments: str | Path,
        fails: bool = False,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Output:
        self.home.mkdir(parents=True, exist_ok=True)
        command = [str(program), *map(str, arguments)]
        try:
            done = subprocess.run(
                command,
                cwd=cwd or self.home,
                env=self.environment(env or {}),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"still running after {TIMEOUT_S} s: {_shown(command)}\n{error.stdout!r}") from error
        output = Output(done.returncode, done.stdout + done.stderr, done.stdout)
        expected = "to fail" if fails else "to succeed"
        assert bool(output.status) == fails, (
            f"expected {expected}, got status {output.status}: {_shown(command)}\n{output.text}"
        )
        return output

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """Return a new environment, so that no setting of this machine affects a tool."""
        base = {
            "PATH": f"{client('python').parent}:/usr/bin:/bin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "UV_PYTHON": str(client("python")),
            "UV_PYTHON_DOWNLOADS": "never",
            "PDM_CHECK_UPDATE": "0",
            "HTTP_PROXY": NOBODY,
            "HTTPS_PROXY": NOBODY,
            "NO_PROXY": "127.0.0.1,127.0.0.0/8,localhost",
        }
        return base | dict(self.env) | dict(extra)

    def python(self, name: str = "env") -> "Python":
        """Return the virtual environment of that name in the home; a new one is empty, without even pip."""
        folder = self.home / name
        if not folder.exists():
            self.run("python", "-m", "venv", "--without-pip", folder)
        return Python(self, folder)


@dataclass(frozen=True)
class Python:
    """A virtual environment to install into."""

    computer: Computer
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "bin" / "python"

    def installed(self) -> dict[str, str]:
        """Return versions by normalized name, without the installers that some tools add."""
        script = (
            "import importlib.metadata as m, json;print(json.dumps({d.name: d.version for d in m.distributions()}))"
        )
        found: dict[str, str] = json.loads(self.computer.run_program(self.path, "-c", script).stdout)
        versions = {canonicalize_name(name): version for name, version in found.items()}
        return {name: version for name, version in versions.items() if name not in {"pip", "setuptools", "wheel"}}

    def value(self, module: str, name: str = "VALUE") -> str:
        """Return a variable of an installed module, which shows the file that the module came from."""
        return self.computer.run_program(self.path, "-c", f"import {module}; print({module}.{name})").stdout.strip()

    def pip_install(self, index: str) -> "Command":
        """Return `pip install` with one index and no other source."""
        arguments = (f"--python={self.path}", "install", "--no-build-isolation", f"--index-url={index}")
        return Command("pip", arguments)

    def uv_install(self, index: str) -> "Command":
        """Return `uv pip install` with one index and no other source."""
        arguments = ("pip", "install", f"--python={self.path}", "--no-build-isolation", f"--default-index={index}")
        return Command("uv", arguments)


@dataclass(frozen=True)
class Index:
    """An index as a client knows it: its URL and the credentials for it."""

    url: str
    user: str
    secret: str

    @property
    def with_user(self) -> str:
        """The URL with the credentials in it."""
        scheme, _, rest = self.url.partition("://")
        return f"{scheme}://{quote(self.user, safe='')}:{quote(self.secret, safe='')}@{rest}"

    def at(self, server: str) -> "Index":
        """Return the same index behind another scheme, host and port; `server` has no trailing slash."""
        return replace(self, url=server + urlsplit(self.url).path)


@dataclass(frozen=True)
class Command:
    """A tool with its arguments, not yet run."""

    tool: str
    arguments: tuple[str | Path, ...]
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)

    def with_arguments(self, *more: str | Path) -> "Command":
        return replace(self, arguments=(*self.arguments, *more))

    def run(
        self, computer: Computer, *more: str | Path, fails: bool = False, env: Mapping[str, str] | None = None
    ) -> Output:
        """Run the command once with `more` arguments."""
        variables = {**self.env, **(env or {})}
        return computer.run(self.tool, *self.arguments, *more, cwd=self.cwd, env=variables, fails=fails)


def _shown(command: Sequence[str]) -> str:
    return " ".join(command)
