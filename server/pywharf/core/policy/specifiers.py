"""Parse versions and sets of version specifiers (PEP 440), each once."""

import functools

from packaging.specifiers import SpecifierSet
from packaging.version import Version


@functools.lru_cache(maxsize=16_384)
def specifier_set(text: str) -> SpecifierSet:
    """Parse a set of version specifiers. Raises InvalidSpecifier."""
    return SpecifierSet(text)


def specifier_count(text: str) -> int:
    """Return how many specifiers a set is written with, without parsing it."""
    return text.count(",") + 1


@functools.lru_cache(maxsize=16_384)
def parsed(version: str) -> Version:
    """Parse a version. Raises InvalidVersion."""
    return Version(version)


def only_version(specifiers: SpecifierSet) -> Version | None:
    """Return the version that is the only one to match, as of `==1.0`; None for any other set.

    A local version of it, such as `1.0+acme`, matches as well.
    """
    if len(specifiers) != 1:
        return None
    specifier = next(iter(specifiers))
    if specifier.operator != "==" or specifier.version.endswith(".*"):
        return None
    version = parsed(specifier.version)
    return version if version.local is None else None
