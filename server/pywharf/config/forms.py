"""The types of backends' fields that carry a form or limits. Configurations and manifests share them."""

from typing import Annotated, Literal

from msgspec import Meta

from pywharf.core.forms import Form
from pywharf.core.urls import check_url

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
_URL = (
    r"https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
    r"(/[A-Za-z0-9._~!$&()*+,;=:%/-]*)?"
)
URL = Form(
    pattern=f"^{_URL}$",
    max_length=2048,
    must_be="an http or https URL without user info, query or fragment",
    check=lambda text: check_url(text, "it"),
    may_hold_secret=True,
)
ENDPOINT = Form(
    pattern=f"^({_URL})?$",
    max_length=2048,
    must_be="empty, or an http or https URL without user info, query or fragment",
    check=lambda text: check_url(text, "it") if text else None,
    may_hold_secret=True,
)
BUCKET = Form(
    pattern="^[a-z0-9][a-z0-9._-]*[a-z0-9]$",
    max_length=222,
    must_be="a bucket's name: lower-case letters, digits, '-', '_' and '.'",
)
AZURE_ACCOUNT = Form(pattern="^[a-z0-9]{3,24}$", max_length=24, must_be="3 to 24 lower-case letters and digits")
AZURE_CONTAINER = Form(
    pattern="^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$",
    max_length=63,
    must_be="3 to 63 lower-case letters, digits and '-'",
)
PREFIX = Form(
    pattern="^([A-Za-z0-9_-][A-Za-z0-9._-]*/)*$",
    max_length=512,
    must_be="empty, or folders each ended by '/', such as python/team-a/",
)
REGION = Form(pattern="^[a-z0-9-]*$", max_length=64, must_be="empty, or a region such as eu-west-1")


def _check_certificates(text: str) -> None:
    """Raise ValueError for a text that holds anything but certificates, a private key for example."""
    begun = text.count("-----BEGIN ")
    if text and (not begun or begun != text.count("-----BEGIN CERTIFICATE-----") or "-----END CERT" not in text):
        raise ValueError("it must hold certificates in PEM form, and nothing else")


CA_BUNDLE = Form(
    pattern=r"^([ -~]|\r|\n|\t)*$",
    max_length=65536,
    must_be="empty, or certificates in PEM form, with their first and last lines",
    check=_check_certificates,
)

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
Url = Annotated[str, Meta(extra={"form": URL})]
Endpoint = Annotated[str, Meta(extra={"form": ENDPOINT})]
Bucket = Annotated[str, Meta(extra={"form": BUCKET})]
AzureAccount = Annotated[str, Meta(extra={"form": AZURE_ACCOUNT})]
AzureContainer = Annotated[str, Meta(extra={"form": AZURE_CONTAINER})]
Prefix = Annotated[str, Meta(extra={"form": PREFIX})]
Region = Annotated[str, Meta(extra={"form": REGION})]
CaBundle = Annotated[str, Meta(extra={"form": CA_BUNDLE})]
PollSeconds = Annotated[int, Meta(ge=1, le=3600)]
