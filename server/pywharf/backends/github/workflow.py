"""The text of the GitHub Actions workflows that update a repo's index and its static site. Pure."""

import hashlib
import shlex
import zlib

from pywharf import __version__
from pywharf.config.forms import DEFAULT_GITHUB_API_URL
from pywharf.config.repo_config import GithubSpec
from pywharf.core.names import RepoName

PATH = ".github/workflows/update_index.yml"
PAGES_PATH = ".github/workflows/gen_gh_pages.yml"
SECRET = "PYWHARF_TOKEN"  # noqa: S105 - its name
"""The Actions secret that the workflows read."""
REQUIREMENT = f"pywharf[github]=={__version__}"
"""The requirement that pip installs in the workflows by default."""

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
      - run: >-
          pip install {requirement}
      - run: >-
          {update_index}
        env:
          {secret}: ${{{{ secrets.{secret} }}}}
"""
_PAGES_TEMPLATE = """\
name: gen_gh_pages
on:
  # Not a part of update_index: a run that a release began is of its tag, and Pages takes the default branch's alone.
  workflow_run:
    workflows: [update_index]
    types: [completed]
  workflow_dispatch:
permissions: {{}}
concurrency:
  group: pages
  cancel-in-progress: false
jobs:
  pages:
    if: github.event_name == 'workflow_dispatch' || github.event.workflow_run.conclusion == 'success'
    runs-on: {runner}
    timeout-minutes: 30
    permissions:
      pages: write
      id-token: write
    environment:
      name: github-pages
    steps:
      - uses: {setup_python}
        with:
          python-version: "3.13"
      - run: >-
          pip install {requirement}
      - run: >-
          {gen_gh_pages}
        env:
          {secret}: ${{{{ secrets.{secret} }}}}
      - uses: {upload_pages}
        with:
          path: {site}
      - uses: {deploy_pages}
"""


def workflow(name: RepoName, spec: GithubSpec, requirement: str = REQUIREMENT) -> str:
    """Return the workflow's text. It begins with a digest of its own content. pip installs `requirement` in it."""
    text = _TEMPLATE.format(
        minute=zlib.crc32(f"{spec.owner}/{spec.repo}".encode()) % 60,
        requirement=shlex.quote(requirement),
        update_index=shlex.join(["pywharf", "update_index", "github", name, *_flags(spec)]),
        secret=SECRET,
        runner=_RUNNER,
        setup_python=_SETUP_PYTHON,
    )
    return _marked(text)


def pages_workflow(spec: GithubSpec, requirement: str = REQUIREMENT) -> str:
    """Return, in the same form, the workflow that publishes a static index whenever the other one has run."""
    text = _PAGES_TEMPLATE.format(
        requirement=shlex.quote(requirement),
        gen_gh_pages=shlex.join(["pywharf", "github.gen_gh_pages", *_flags(spec), f"--folder={_SITE}"]),
        secret=SECRET,
        site=_SITE,
        runner=_RUNNER,
        setup_python=_SETUP_PYTHON,
        upload_pages=_UPLOAD_PAGES,
        deploy_pages=_DEPLOY_PAGES,
    )
    return _marked(text)


def _flags(spec: GithubSpec) -> list[str]:
    flags = [f"--owner={spec.owner}", f"--repo={spec.repo}", f"--branch={spec.branch}"]
    flags += [f"--index_filename={spec.index_name}"]
    if spec.api_url != DEFAULT_GITHUB_API_URL:
        flags += [f"--api_url={spec.api_url}"]
    return [*flags, f"--secret_env={SECRET}"]


def _marked(text: str) -> str:
    return f"{_MARK}{_digest(text)}\n{text}"


def is_untouched(text: str) -> bool:
    """Return whether some version of pywharf wrote the text and nobody has changed it since."""
    head, _, rest = text.replace("\r\n", "\n").partition("\n")
    return head.startswith(_MARK) and head.removeprefix(_MARK).strip() == _digest(rest)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
