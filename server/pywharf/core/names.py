"""Names of projects and repos."""

import functools
import re
from typing import NewType

from pywharf.core.errors import InvalidNameError

ProjectName = NewType("ProjectName", str)
"""A project's name in the normalized form of PEP 503."""

RepoName = NewType("RepoName", str)
"""A repo's name, which clients use in URLs and as the user name: lower case, one URL segment, one folder name."""

REPO_NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"
_REPO_NAME = re.compile(REPO_NAME_PATTERN[:-1] + r"\Z")
_PROJECT_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\Z")
_SEPARATORS = re.compile(r"[-_.]+")
_MAX_PROJECT_NAME = 200


@functools.lru_cache(maxsize=65536)
def normalize(raw: str) -> ProjectName:
    """Return the PEP 503 form; idempotent. Raises InvalidNameError for a name that the core metadata rules forbid."""
    if len(raw) > _MAX_PROJECT_NAME or not _PROJECT_NAME.match(raw):
        raise InvalidNameError(
            f"{raw[:_MAX_PROJECT_NAME]!r} is not a valid project name: use ASCII letters, digits, '.', '-' and "
            f"'_', starting and ending with a letter or digit, at most {_MAX_PROJECT_NAME} characters."
        )
    return ProjectName(_SEPARATORS.sub("-", raw).lower())


def parse_repo_name(raw: str) -> RepoName:
    """Return the name in lower case, as the original did. Raises InvalidNameError."""
    name = raw.lower()
    # The lower case of some letters beyond ASCII is ASCII: that of the Kelvin sign is "k".
    if not raw.isascii() or not _REPO_NAME.match(name):
        raise InvalidNameError(
            f"{raw[:80]!r} is not a valid repo name: use at most 63 ASCII letters, digits, '.', '-' and '_', "
            "starting and ending with a letter or digit."
        )
    return RepoName(name)
