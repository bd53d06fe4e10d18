"""The GitHub Actions workflow that keeps a repo's index: text. Pure."""

import hashlib
import shlex
import zlib

from pywharf import __version__
from pywharf.config import DEFAULT_GITHUB_API_URL, GithubSpec
from pywharf.core.names import RepoName

PATH = ".github/workflows/update_index.yml"
SECRET = "PYWHARF_TOKEN"  # noqa: S105 - its name
"""The Actions secret that the workflow reads."""

_MARK = "# Written by pywharf github.init_pkg_repo, which replaces it as long as nobody changed it: "
_SITE = "site"
_RUNNER = "ubuntu-24.04"
_SETUP_PYTHON = "actions/setup-python@v6.0.0"
_UPLOAD_PAGES = "actions/upload-pages-artifact@v4.0.0"
_DEPLOY_PAGES = "actions/deploy-pages@v4.0.5"
_TEMPLATE = """\
name: update_index
on:
  release:
    types: [published, edited, deleted]
  schedule:
    - cron: "{minute} * * * *"
  workflow_dispatch:
# The secret does all the work: the token that GitHub makes for a run may do nothing.
permissions: {{}}
# One at a time; of those that wait, the last stands for all.
concurrency:
  group: update_index
  cancel-in-progress: false
jobs:
  update_index:
    runs-on: {runner}
    timeout-minutes: 60
    steps:
      - uses: {setup_python}
        with:
          python-version: "3.13"
      - run: pip install 'pywharf[github]=={version}'
      - run: >-
          {update_index}
        env:
          {secret}: ${{{{ secrets.{secret} }}}}
"""
_PAGES = """\
      - run: >-
          {gen_gh_pages}
        env:
          {secret}: ${{{{ secrets.{secret} }}}}
      - uses: {upload_pages}
        with:
          path: {site}
  pages:
    needs: update_index
    runs-on: {runner}
    timeout-minutes: 15
    permissions:
      pages: write
      id-token: write
    environment:
      name: github-pages
    steps:
      - uses: {deploy_pages}
"""


def workflow(name: RepoName, spec: GithubSpec, *, pages: bool) -> str:
    """The file, which begins with a mark of its own content."""
    flags = [f"--owner={spec.owner}", f"--repo={spec.repo}", f"--branch={spec.branch}"]
    flags += [f"--index_filename={spec.index_name}"]
    if spec.api_url != DEFAULT_GITHUB_API_URL:
        flags += [f"--api_url={spec.api_url}"]
    flags += [f"--secret_env={SECRET}"]
    text = (_TEMPLATE + (_PAGES if pages else "")).format(
        minute=zlib.crc32(f"{spec.owner}/{spec.repo}".encode()) % 60,
        version=__version__,
        update_index=shlex.join(["pywharf", "update_index", "github", name, *flags]),
        gen_gh_pages=shlex.join(["pywharf", "github.gen_gh_pages", *flags, f"--folder={_SITE}"]),
        secret=SECRET,
        site=_SITE,
        runner=_RUNNER,
        setup_python=_SETUP_PYTHON,
        upload_pages=_UPLOAD_PAGES,
        deploy_pages=_DEPLOY_PAGES,
    )
    return f"{_MARK}{_digest(text)}\n{text}"


def is_untouched(text: str) -> bool:
    """Whether some version of pywharf wrote it, and nobody changed it since."""
    head, _, rest = text.replace("\r\n", "\n").partition("\n")
    return head.startswith(_MARK) and head.removeprefix(_MARK).strip() == _digest(rest)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
