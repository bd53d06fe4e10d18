"""Publishing a project's `dist` folder with each real tool, with credentials passed as that tool's users pass them."""

from collections.abc import Callable
from pathlib import Path

from support.clients.computer import Command, Computer, Index, Output
from support.distributions.projects import SourceTree


def publish(
    tool: str, computer: Computer, tree: SourceTree, index: Index, *options: str | Path, fails: bool = False
) -> Output:
    """Run the publishing tool once."""
    command = PUBLISHERS[tool](tree, index)
    return command.run(computer, *options, fails=fails)


def upload(computer: Computer, index: Index, *files: Path) -> None:
    """Publish files that a test needs in the repo, with the fastest tool."""
    _uv_publish(index).run(computer, *files)


def _twine(tree: SourceTree, index: Index) -> Command:
    flags = ("--non-interactive", "--disable-progress-bar", f"--repository-url={index.url}")
    named = (f"--username={index.user}", f"--password={index.secret}")
    return Command("twine", ("upload", *flags, *named, *_files(tree)))


def _uv(tree: SourceTree, index: Index) -> Command:
    return _uv_publish(index).with_arguments(*_files(tree))


def _uv_publish(index: Index) -> Command:
    named = (f"--username={index.user}", f"--password={index.secret}")
    return Command("uv", ("publish", f"--publish-url={index.url}", *named))


def _poetry(tree: SourceTree, index: Index) -> Command:
    env = {
        "POETRY_REPOSITORIES_WHARF_URL": index.url,
        "POETRY_HTTP_BASIC_WHARF_USERNAME": index.user,
        "POETRY_HTTP_BASIC_WHARF_PASSWORD": index.secret,
    }
    return Command("poetry", ("publish", "--no-interaction", "--repository=wharf"), tree.folder, env)


def _flit(tree: SourceTree, index: Index) -> Command:
    """Return flit's command, which rebuilds the files that it publishes."""
    env = {"FLIT_INDEX_URL": index.url, "FLIT_USERNAME": index.user, "FLIT_PASSWORD": index.secret}
    return Command("flit", ("publish",), tree.folder, env)


def _pdm(tree: SourceTree, index: Index) -> Command:
    named = (f"--username={index.user}", f"--password={index.secret}")
    return Command("pdm", ("publish", "--no-build", f"--repository={index.url}", *named), tree.folder)


def _files(tree: SourceTree) -> list[Path]:
    return sorted((tree.folder / "dist").iterdir())


PUBLISHERS: dict[str, Callable[[SourceTree, Index], Command]] = {
    "twine": _twine,
    "uv": _uv,
    "poetry": _poetry,
    "flit": _flit,
    "pdm": _pdm,
}
