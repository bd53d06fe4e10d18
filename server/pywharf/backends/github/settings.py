"""The settings of the github backend's commands. The descriptions are their help."""

import re
from typing import Annotated

from msgspec import Meta

from pywharf.config.forms import DEFAULT_GITHUB_API_URL
from pywharf.config.repo_config import GithubSpec
from pywharf.core.redaction import Redacted
from pywharf.core.struct_errors import convert

_API_URL = "GitHub's API. Of GitHub Enterprise: https://HOST/api/v3."
_BRANCH = "Branch that holds the index file."
_REQUIREMENT = re.compile(r"[A-Za-z0-9./][^{\x00-\x1f\x7f\u0085\u2028\u2029]*")


class InitPkgRepoSettings(Redacted, frozen=True, kw_only=True):
    """The settings of `pywharf github.init_pkg_repo`."""

    name: Annotated[str, Meta(description="The repo's name for clients and configurations.")]
    owner: Annotated[str, Meta(description="User or organisation that has, or is to have, the GitHub repository.")]
    repo: Annotated[str, Meta(description="The GitHub repository's name; one that is there is adopted.")]
    branch: Annotated[str, Meta(description="Its default branch, which holds the index file and the workflow.")] = (
        "master"
    )
    index_filename: Annotated[
        str | None, Meta(description="Name of the index file; its extension chooses the codec.  [default: index.toml]")
    ] = None
    api_url: Annotated[str, Meta(description=_API_URL)] = DEFAULT_GITHUB_API_URL
    secret: Annotated[
        str | None,
        Meta(description="Token that this command works with. It shows in process lists: prefer --secret_file."),
    ] = None
    secret_env: Annotated[str | None, Meta(description="Environment variable that holds it.")] = None
    secret_file: Annotated[str | None, Meta(description="Path of a file that holds it.")] = None
    workflow_secret: Annotated[
        str | None,
        Meta(description="Token that the workflow reads releases and writes the index with; default: the same one."),
    ] = None
    workflow_secret_env: Annotated[str | None, Meta(description="Environment variable that holds it.")] = None
    workflow_secret_file: Annotated[str | None, Meta(description="Path of a file that holds it.")] = None
    private: Annotated[bool, Meta(description="Whether a GitHub repository that is created is private.")] = True
    enable_gh_pages: Annotated[
        bool, Meta(description="Whether a second workflow publishes a static index with GitHub Pages.")
    ] = False
    requirement: Annotated[
        str | None,
        Meta(description="What pip installs in the workflows.  [default: pywharf[github], of this version]"),
    ] = None
    replace_secret: Annotated[
        bool, Meta(description="Whether a secret that is already there is set again: GitHub does not show it.")
    ] = False
    force: Annotated[
        bool,
        Meta(description="Whether to replace a workflow or Pages that somebody changed; Pages of a private one, too."),
    ] = False
    dry_run: Annotated[bool, Meta(description="Whether to say only what would be done.")] = False

    def __post_init__(self) -> None:
        if "{" in self.api_url:  # it becomes part of a workflow, where ${{ … }} is an expression
            raise ValueError("api_url may hold no '{'")
        if self.requirement is not None and not _REQUIREMENT.fullmatch(self.requirement):
            raise ValueError(
                "requirement must be one in one line, without '{', such as pywharf[github] @ git+https://…"
            )

    @property
    def spec(self) -> GithubSpec:
        """The repo's table. Raises InvalidConfigError."""
        return _spec(self, "github.init_pkg_repo")


class GenGhPagesSettings(Redacted, frozen=True, kw_only=True):
    """The settings of `pywharf github.gen_gh_pages`."""

    owner: Annotated[str, Meta(description="User or organisation that has the GitHub repository.")]
    repo: Annotated[str, Meta(description="The GitHub repository's name.")]
    branch: Annotated[str, Meta(description=_BRANCH)] = "master"
    index_filename: Annotated[str | None, Meta(description="Name of the index file.  [default: index.toml]")] = None
    api_url: Annotated[str, Meta(description=_API_URL)] = DEFAULT_GITHUB_API_URL
    secret: Annotated[
        str | None,
        Meta(description="Token that the index is read with. It shows in process lists: prefer --secret_file."),
    ] = None
    secret_env: Annotated[str | None, Meta(description="Environment variable that holds it.")] = None
    secret_file: Annotated[str | None, Meta(description="Path of a file that holds it.")] = None
    index: Annotated[
        str | None, Meta(description="Path of an index file to use instead of the GitHub repository's.")
    ] = None
    folder: Annotated[str, Meta(description="Folder that `simple/` is written into.")] = "site"
    download_base: Annotated[
        str | None,
        Meta(description="What stands before TAG/FILE in links; default: https://HOST/OWNER/REPO/releases/download."),
    ] = None

    @property
    def spec(self) -> GithubSpec:
        """The repo's table. Raises InvalidConfigError."""
        return _spec(self, "github.gen_gh_pages")


def _spec(settings: InitPkgRepoSettings | GenGhPagesSettings, command: str) -> GithubSpec:
    table = {"type": "github", "owner": settings.owner, "repo": settings.repo, "branch": settings.branch}
    table |= {"api_url": settings.api_url}
    if settings.index_filename is not None:
        table["index_filename"] = settings.index_filename
    return convert(table, GithubSpec, f"pywharf {command}")
