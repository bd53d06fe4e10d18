"""Parse the start tags of an HTML page in time proportional to its length, whatever the page holds.

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
"""Maximum number of attributes of one tag; further attributes are ignored."""


class Tag(NamedTuple):
    """A start tag. If an attribute is repeated, the first one counts, as in browsers."""

    name: str
    attributes: dict[str, str]


def start_tags(text: str, names: frozenset[str]) -> Iterator[Tag]:
    """Yield the tags with one of the (lower-case) names, in order. Comments and an unterminated tag are ignored.

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
    """Parse the attributes that follow `position`. Returns them and the end of the tag (None if it is unterminated)."""
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
