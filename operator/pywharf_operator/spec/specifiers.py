"""Sets of version specifiers (PEP 440), as manifests write them."""

import functools
from typing import Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from pywharf.core.policy.model import MAX_SPECIFIERS
from pywharf.core.policy.specifiers import specifier_count

_VERSION: Final = (
    r"v?([0-9]+!)?[0-9]+(\.[0-9]+)*"
    r"([-_.]?(alpha|beta|preview|pre|rc|a|b|c)[-_.]?[0-9]*)?"
    r"(-[0-9]+|[-_.]?(post|rev|r)[-_.]?[0-9]*)?"
    r"([-_.]?dev[-_.]?[0-9]*)?"
    r"(\+[a-z0-9]+([-_.][a-z0-9]+)*)?(\.\*)?"
)
_SPECIFIER: Final = rf" *(===|~=|==|!=|<=|>=|<|>) *{_VERSION} *"
SPECIFIERS_PATTERN: Final = f"^(?i:{_SPECIFIER}(,{_SPECIFIER})*)$"
"""What PEP 440 allows, and a little more: it does not say which operators take `.*` or a local version."""


@functools.lru_cache(maxsize=65536)
def check_specifiers(text: str) -> None:
    """Raise ValueError for too many, and for what PEP 440 refuses, such as `~=2` or `<2.*`."""
    if (count := specifier_count(text)) > MAX_SPECIFIERS:
        raise ValueError(f"{count} version specifiers are too many; write at most {MAX_SPECIFIERS}, or several rules")
    try:
        SpecifierSet(text)
    except InvalidSpecifier as error:
        raise ValueError(
            f"{str(error).removeprefix('Invalid specifier: ')} is no version specifier of PEP 440; write for example "
            "'>=2,<2.3' or '==1.82.*'"
        ) from None
