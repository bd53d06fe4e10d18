"""The README of a GitHub repository that holds packages. Pure."""

from pywharf.config.forms import DEFAULT_GITHUB_API_URL
from pywharf.config.repo_config import GithubSpec
from pywharf.core.names import RepoName

PATH = "README.md"
_TEMPLATE = """\
# {repo}

Python packages, published with [pywharf](https://github.com/pywharf/pywharf): each file is an asset of a release of its
own, and `{index}` in the branch `{branch}` lists them all. Releases are made and removed by tools; please edit none by
hand, but to yank a file or to delete it.

## Install

From a pywharf server that serves this repository as `{name}`, with a GitHub token that may read it (or, where the
server has one for this repo, its read secret):

```console
$ pip install --index-url https://{name}:TOKEN@SERVER/repo/{name}/simple/ PACKAGE
$ UV_INDEX_WHARF_USERNAME={name} UV_INDEX_WHARF_PASSWORD=TOKEN \\
    uv pip install --default-index wharf=https://SERVER/repo/{name}/simple/ PACKAGE
```
{pages}
## Publish

```console
$ twine upload --repository-url https://SERVER/repo/{name}/simple/ --username {name} --password TOKEN dist/*
```

## Serve

```toml
[{name}]
type = "github"
owner = "{owner}"
repo = "{repo}"
branch = "{branch}"
```

The workflow `update_index` writes the index whenever a release changes, and each hour.
"""
_PAGES = """
From the static index that the workflow publishes with GitHub Pages:

```console
$ pip install --index-url {url} PACKAGE
```
"""


def readme(name: RepoName, spec: GithubSpec, *, pages: bool) -> str:
    """Return the README's text."""
    return _TEMPLATE.format(
        name=name,
        owner=spec.owner,
        repo=spec.repo,
        branch=spec.branch,
        index=spec.index_name,
        pages=_PAGES.format(url=_pages_url(spec)) if pages else "",
    )


def is_github_s(text: str, repo: str) -> bool:
    """Return whether the text is the README that GitHub puts into a new repository."""
    return text.strip() in {"", f"# {repo}"}


def _pages_url(spec: GithubSpec) -> str:
    if spec.api_url != DEFAULT_GITHUB_API_URL:
        return "https://PAGES/simple/"
    host = f"{spec.owner.lower()}.github.io"
    return f"https://{host}/simple/" if spec.repo.lower() == host else f"https://{host}/{spec.repo}/simple/"
