"""Packages in a GitHub repository: a release for each file, whose tag is the file's name.

What is here is imported with every command; PyGithub is not, until such a repo is opened.
"""

from pywharf.backends.registration import BackendType, OpenBackend
from pywharf.config import GithubSpec
from pywharf.core.errors import InvalidConfigError
from pywharf.index.ports import Backend


def _open(request: OpenBackend) -> Backend:
    try:
        from pywharf.backends.github.backend import open_github  # noqa: PLC0415 - see the module's docstring
    except ImportError as error:
        msg = f"A github backend needs the package {error.name!r}: pip install 'pywharf[github]'."
        raise InvalidConfigError(msg) from error
    return open_github(request)


BACKEND = BackendType(spec=GithubSpec, open=_open, needs_secret=True)
