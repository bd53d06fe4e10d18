"""The start tags of an HTML page, in time that grows with the page's length whatever it holds.

The standard library's parser takes a minute for 400 KB of `<!--`; pages of other indexes may be 64 MB.
"""

import html
import re
from collections.abc import Iterator
from typing import NamedTuple

_NAME = re.compile(r"[A-Za-z][^\s/>]*")
_ATTRIBUTE = re.compile(
    r"""[\s/]*(?:(?P<end>>)|(?P<name>[^\s/>=]+|=[^\s/>=]*)"""
    r"""(?:\s*=\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<open>["'])|(?P<bare>[^\s>]*)))?)"""
)


_MAX_ATTRIBUTES = 100
"""Of one tag; further ones are passed over."""


class Tag(NamedTuple):
    """A start tag. Of an attribute that stands twice the first counts, as in browsers."""

    name: str
    attributes: dict[str, str]


def start_tags(text: str, names: frozenset[str]) -> Iterator[Tag]:
    """Those with one of the (lower-case) names, in their order; comments are passed over, as is a tag cut off.

    Raises ValueError for a character reference of thousands of digits.
    """
    position = 0
    while (start := text.find("<", position)) >= 0:
        if text.startswith("<!--", start):
            # "<!-->" is a whole comment.
            closing = text.find("-->", start + 2)
            if closing < 0:
                return
            position = closing + 3
            continue
        named = _NAME.match(text, start + 1)
        if named is None:
            position = start + 1
            continue
        found, end = _attributes(text, named.end())
        if end is None:
            return
        position = end
        if named[0].lower() in names:
            yield Tag(named[0].lower(), {key: html.unescape(value) for key, value in found.items()})


def _attributes(text: str, position: int) -> tuple[dict[str, str], int | None]:
    """Those of the tag whose name ends at `position`, and where the tag ends; None where it does not."""
    found: dict[str, str] = {}
    while (matched := _ATTRIBUTE.match(text, position)) is not None:
        position = matched.end()
        if matched["end"]:
            return found, position
        if matched["open"]:
            break
        value = next((v for v in matched.group("double", "single", "bare") if v is not None), "")
        if len(found) < _MAX_ATTRIBUTES:
            found.setdefault(matched["name"].lower(), value)
    return found, None
