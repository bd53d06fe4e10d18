"""A backend that keeps packages in a GitHub repository: one release for each file, with the file's name as its tag.

This module is imported with every command. PyGithub is imported only when a github repo is opened or one of the
commands below runs.
"""

import contextlib
from collections.abc import Iterator

from pywharf.backends.github.settings import GenGhPagesSettings, InitPkgRepoSettings
from pywharf.backends.registration import BackendCommand, BackendType, OpenBackend
from pywharf.config.repo_config import GithubSpec
from pywharf.core.errors import InvalidConfigError
from pywharf.index.ports import Backend


def _open(request: OpenBackend[GithubSpec]) -> Backend:
    secret = request.needed_secret()
    with _needing_the_extra("A github backend"):
        from pywharf.backends.github.backend import open_github  # noqa: PLC0415 - see the module's docstring
    return open_github(request, secret)


def _init_pkg_repo(settings: InitPkgRepoSettings) -> None:
    with _needing_the_extra("github.init_pkg_repo"):
        from pywharf.backends.github.init_pkg_repo import init_pkg_repo  # noqa: PLC0415 - see the module's docstring
    init_pkg_repo(settings)


def _gen_gh_pages(settings: GenGhPagesSettings) -> None:
    from pywharf.backends.github.gen_gh_pages import gen_gh_pages  # noqa: PLC0415 - see the module's docstring

    with _needing_the_extra("github.gen_gh_pages without --index"):
        gen_gh_pages(settings)


@contextlib.contextmanager
def _needing_the_extra(what: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise InvalidConfigError(f"{what} needs the package {error.name!r}: pip install 'pywharf[github]'.") from error


_INIT_PKG_REPO = """Make a GitHub repository that holds a repo's packages, or adopt one that is there.

It gets a README, an empty index, a workflow that runs update_index whenever a release changes and each hour, and the
secret for it. What is there already stays as it is: a second run changes nothing.

\b
The token needs, of this GitHub repository: Administration, Contents, Secrets, Workflows (and Pages), each to write; a
classic token the scopes `repo` and `workflow`. What the workflow uses needs Contents only.

\b
Examples:
  pywharf github.init_pkg_repo --name=team-a --owner=acme --repo=wheels --secret_env=TOKEN --dry_run
  pywharf github.init_pkg_repo --name=team-a --owner=acme --repo=wheels --secret_env=TOKEN \\
    --workflow_secret_env=WORKFLOW_TOKEN

It prints the tables of a configuration for the repo, without a secret.
"""
_GEN_GH_PAGES = """Write a static index of a repo's packages, which pip and uv install from.

Files are linked to where GitHub lets everybody download a release's assets of a public repository. Pages of projects
that are gone are removed; nothing else in the folder is touched.

\b
Examples:
  pywharf github.gen_gh_pages --owner=acme --repo=wheels --secret_env=TOKEN --folder=site
  pywharf github.gen_gh_pages --owner=acme --repo=wheels --index=index.toml --folder=site
"""

BACKEND = BackendType(
    spec=GithubSpec,
    open=_open,
    commands={
        "init_pkg_repo": BackendCommand(InitPkgRepoSettings, _init_pkg_repo, _INIT_PKG_REPO),
        "gen_gh_pages": BackendCommand(GenGhPagesSettings, _gen_gh_pages, _GEN_GH_PAGES),
    },
)
