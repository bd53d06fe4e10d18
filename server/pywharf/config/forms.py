"""The types of backends' fields that carry a form or limits. Configurations and manifests share them."""

from typing import Annotated, Literal

from msgspec import Meta

from pywharf.core.forms import Form

DEFAULT_GITHUB_API_URL = "https://api.github.com"

INDEX_FILENAME = Form(
    pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,100}\.(toml|json)$",
    max_length=106,
    must_be="a file name that ends with .toml or .json, such as index.json",
)
GITHUB_OWNER = Form(
    pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$",
    max_length=39,
    must_be="a GitHub user or organisation",
)
GITHUB_REPO = Form(
    pattern="^[A-Za-z0-9._-]+$",
    max_length=100,
    must_be="a GitHub repository's name without its owner",
    forbidden=(".", ".."),  # they would lead elsewhere in a URL's path
)
BRANCH = Form(pattern="^[A-Za-z0-9_][A-Za-z0-9._/-]*$", max_length=244, must_be="a branch name such as master")

IndexFilename = Annotated[str, Meta(extra={"form": INDEX_FILENAME})]
GithubOwner = Annotated[str, Meta(extra={"form": GITHUB_OWNER})]
"""Names of enterprise-managed users hold a '_'."""
GithubRepo = Annotated[str, Meta(extra={"form": GITHUB_REPO})]
Branch = Annotated[str, Meta(extra={"form": BRANCH})]
Download = Literal["redirect", "stream"]
FileBytes = Annotated[int, Meta(ge=1, le=2**53)]
"""The size of a file. Beyond 2^53 JSON numbers lose digits."""
LARGEST_FILE = 5 * 1024**3 - 1
LARGEST_GITHUB_FILE = 2**31 - 1
