"""Find file names that mean the same distribution: one wheel per build and its tags, one sdist per release.

`swap-1.0-…`, `Swap-1.0-…` and `swap-1.0.0-…` are the same wheel to every installer, which takes the one it sees last.
So another spelling of a release's file could change the release after it was published.
"""

import functools
import re
from collections.abc import Iterable

from packaging.utils import canonicalize_version

from pywharf.core.filenames import extension_of, is_project, version_of
from pywharf.core.names import ProjectName

_BUILD = re.compile(r"0*(\d+)(.*)\Z", re.ASCII | re.DOTALL)
_TAGS = 3
_LEAST_PARTS = 5
"""Minimum parts of a wheel's name: project, version and the three tags. A build tag may follow the version."""


@functools.lru_cache(maxsize=65536)
def identity(filename: str, project: ProjectName) -> str:
    """Return a key that is equal for all names of one distribution of `project`.

    A wheel's key has version, build and tags in normal form; an sdist's has only the version. A name that cannot be
    read, or belongs to another project, is its own key.
    """
    extension = extension_of(filename)
    version = version_of(filename, project)
    if extension is None or version is None:
        return filename
    release = canonicalize_version(version)
    if extension != ".whl":
        return f"{project}-{release} sdist"
    parts = filename.removesuffix(extension).lower().split("-")
    if not _LEAST_PARTS <= len(parts) <= _LEAST_PARTS + 1 or not is_project(parts[0], project):
        return filename
    build = _normal_build(parts[2]) if len(parts) > _LEAST_PARTS else ""
    tags = "-".join(_normal_tags(tag) for tag in parts[-_TAGS:])
    return f"{project}-{release}-{build}-{tags} wheel"


def find_duplicate(filename: str, project: ProjectName, others: Iterable[str]) -> str | None:
    """Return another name among `others` that means the same distribution as `filename`, or None."""
    key = identity(filename, project)
    return next((other for other in others if other != filename and identity(other, project) == key), None)


def duplicates(project: ProjectName, filenames: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the groups of names that mean one distribution, each sorted. Names without a double are left out."""
    groups: dict[str, list[str]] = {}
    for filename in filenames:
        groups.setdefault(identity(filename, project), []).append(filename)
    return [tuple(sorted(names)) for names in groups.values() if len(names) > 1]


def _normal_build(raw: str) -> str:
    """Return a build tag without the leading zeros of its number."""
    found = _BUILD.match(raw)
    return f"{found[1]}{found[2]}" if found else raw


def _normal_tags(raw: str) -> str:
    """Return a compressed tag set, sorted and without duplicates."""
    return ".".join(sorted(set(raw.split(".")) - {""}))
