"""The lock files of three tools: how each is written against an index, and installed from it on another computer."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from support.clients.computer import Computer, Index, Python


@dataclass(frozen=True)
class Lock:
    """A kind of lock file."""

    name: str
    write: Callable[[Computer, Index, Sequence[str]], Path]
    """Lock these projects on a computer; returns the file."""
    install: Callable[[Computer, Index, Path], Python]
    """Install a lock file on another computer."""


def _uv_env(index: Index) -> dict[str, str]:
    return {"UV_INDEX_WHARF_USERNAME": index.user, "UV_INDEX_WHARF_PASSWORD": index.secret}


def _write_uv_lock(computer: Computer, index: Index, projects: Sequence[str]) -> Path:
    folder = computer.home / "project"
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "consumer"\nversion = "1.0"\nrequires-python = ">=3.11,<4"\n'
        f"dependencies = {json.dumps(list(projects))}\n\n"
        f'[[tool.uv.index]]\nname = "wharf"\nurl = {json.dumps(index.url)}\ndefault = true\n'
    )
    computer.run("uv", "lock", cwd=folder, env=_uv_env(index))
    return folder / "uv.lock"


def _uv_sync(computer: Computer, index: Index, lock: Path) -> Python:
    folder = computer.home / "project"
    folder.mkdir(parents=True)
    for name in ("pyproject.toml", "uv.lock"):
        (folder / name).write_text((lock.parent / name).read_text())
    computer.run("uv", "sync", "--frozen", cwd=folder, env=_uv_env(index))
    return Python(computer, folder / ".venv")


def _compile(name: str, *arguments: str) -> Callable[[Computer, Index, Sequence[str]], Path]:
    def write(computer: Computer, index: Index, projects: Sequence[str]) -> Path:
        computer.home.mkdir(parents=True, exist_ok=True)
        wanted, lock = computer.home / "wanted.in", computer.home / name
        wanted.write_text("\n".join(projects))
        options = (f"--default-index={index.with_user}", f"--output-file={lock}", *arguments)
        computer.run("uv", "pip", "compile", "--quiet", "--generate-hashes", *options, wanted)
        return lock

    return write


def _pip_install(computer: Computer, index: Index, lock: Path) -> Python:
    python = computer.python()
    python.pip_install(index.with_user).run(computer, "--no-compile", "--require-hashes", "-r", lock)
    return python


def _uv_pip_sync(computer: Computer, index: Index, lock: Path) -> Python:
    python = computer.python()
    host = urlsplit(index.url).hostname
    (computer.home / ".netrc").write_text(f"machine {host} login {index.user} password {index.secret}\n")
    computer.run("uv", "pip", "sync", f"--python={python.path}", "--preview-features=pylock", lock)
    return python


UV_LOCK = Lock("uv.lock", _write_uv_lock, _uv_sync)
REQUIREMENTS = Lock("requirements.txt", _compile("requirements.txt"), _pip_install)
PYLOCK = Lock("pylock.toml", _compile("pylock.toml", "--format=pylock.toml"), _uv_pip_sync)
LOCKS = (UV_LOCK, REQUIREMENTS, PYLOCK)
