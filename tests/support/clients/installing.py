"""Installing from one index with each real tool, with credentials passed as that tool's users pass them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from support.clients.computer import Command, Computer, Index, Output, Python


def install(
    tool: str,
    computer: Computer,
    index: Index,
    *requirements: str | Path,
    into: str = "project",
    fails: bool = False,
    env: Mapping[str, str] | None = None,
) -> tuple[Python, Output]:
    """Run the tool once to fill a new environment in the home's folder `into`."""
    folder = computer.home / into
    folder.mkdir(parents=True)
    command = INSTALLERS[tool](computer, folder, index)
    output = command.run(computer, *requirements, fails=fails, env=env)
    return Python(computer, folder / ".venv"), output


def _pip(computer: Computer, folder: Path, index: Index) -> Command:
    return computer.python(f"{folder.name}/.venv").pip_install(index.with_user)


def _uv(computer: Computer, folder: Path, index: Index) -> Command:
    return computer.python(f"{folder.name}/.venv").uv_install(index.with_user)


def _uv_add(_: Computer, folder: Path, index: Index) -> Command:
    """Return `uv add` for a project that names the index; the credentials come from the environment."""
    _write_project(folder, f'[[tool.uv.index]]\nname = "wharf"\nurl = {json.dumps(index.url)}\ndefault = true\n')
    env = {"UV_INDEX_WHARF_USERNAME": index.user, "UV_INDEX_WHARF_PASSWORD": index.secret}
    return Command("uv", ("add",), folder, env)


def _poetry(_: Computer, folder: Path, index: Index) -> Command:
    """Return `poetry add`. The source is named like the repo because poetry keys its cache by that name, not by URL."""
    source = f'[[tool.poetry.source]]\nname = "{index.user}"\nurl = {json.dumps(index.url)}\npriority = "primary"\n'
    _write_project(folder, f"[tool.poetry]\npackage-mode = false\n{source}")
    variable = f"POETRY_HTTP_BASIC_{index.user.upper().replace('-', '_')}"
    env = {
        "POETRY_VIRTUALENVS_IN_PROJECT": "true",
        f"{variable}_USERNAME": index.user,
        f"{variable}_PASSWORD": index.secret,
    }
    return Command("poetry", ("add", "--no-interaction"), folder, env)


def _pdm(_: Computer, folder: Path, index: Index) -> Command:
    """Return `pdm add`. The source is named pypi because it replaces the default source."""
    source = f'[[tool.pdm.source]]\nname = "pypi"\nurl = {json.dumps(index.url)}\n'
    _write_project(folder, f"[tool.pdm]\ndistribution = false\n{source}")
    return Command("pdm", ("add",), folder, {"PDM_PYPI_USERNAME": index.user, "PDM_PYPI_PASSWORD": index.secret})


def _write_project(folder: Path, tools: str) -> None:
    head = '[project]\nname = "consumer"\nversion = "1.0"\nrequires-python = ">=3.11,<4"\ndependencies = []\n'
    (folder / "pyproject.toml").write_text(f"{head}\n{tools}")


INSTALLERS: dict[str, Callable[[Computer, Path, Index], Command]] = {
    "pip": _pip,
    "uv": _uv,
    "uv-add": _uv_add,
    "poetry": _poetry,
    "pdm": _pdm,
}
