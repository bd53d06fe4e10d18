"""Content negotiation for the Simple API (PEP 691, RFC 9110 section 12.5)."""

import enum
import functools
import re

from pywharf.core.errors import InvalidInputError, NotAcceptableError


class PageFormat(enum.Enum):
    """The formats of a page; the value is the media type."""

    JSON = "application/vnd.pypi.simple.v1+json"
    HTML = "application/vnd.pypi.simple.v1+html"
    TEXT_HTML = "text/html"

    @property
    def content_type(self) -> str:
        """The Content-Type header's value."""
        return f"{self.value}; charset=utf-8" if self is PageFormat.TEXT_HTML else self.value


# Of equally preferred formats, the first is sent. So a client without a preference gets what PEP 503 promised.
_OFFERED = (PageFormat.TEXT_HTML, PageFormat.HTML, PageFormat.JSON)
_ALIASES = {
    "application/vnd.pypi.simple.latest+json": PageFormat.JSON.value,
    "application/vnd.pypi.simple.latest+html": PageFormat.HTML.value,
}
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a grammar rule's name
_RANGE = re.compile(rf"({_TOKEN})/({_TOKEN})((?:\s*;\s*{_TOKEN}=(?:{_TOKEN}|\"[^\"]*\"))*)\s*\Z")
_QUALITY = re.compile(r";\s*[qQ]=([^;\s]*)")
_QVALUE = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\Z")
_MAX_ACCEPT = 4096
_NO_WISH = "application/json"
"""The media type that libraries send to any API. It is no format of the Simple API (PEP 691), so no preference."""


@functools.lru_cache(maxsize=512)
def negotiate(accept: str) -> PageFormat:
    """Return the page format for an Accept header ("" means anything).

    Raises InvalidInputError for a malformed header and NotAcceptableError if no format fits.
    """
    weights = _weights(accept)
    best: PageFormat | None = None
    best_quality = 0.0
    for offered in _OFFERED:
        quality = _quality(offered.value, weights)
        if quality > best_quality:
            best, best_quality = offered, quality
    if best is None and weights.get(_NO_WISH):
        best = next((offered for offered in _OFFERED if weights.get(offered.value) != 0), None)
    if best is None:
        raise NotAcceptableError(f"Accept {accept[:200]!r} allows none of {', '.join(f.value for f in _OFFERED)}.")
    return best


def _weights(accept: str) -> dict[str, float]:
    if len(accept) > _MAX_ACCEPT:
        raise InvalidInputError(f"The Accept header is over {_MAX_ACCEPT} characters.")
    weights: dict[str, float] = {}
    for element in accept.split(","):
        part = element.strip()
        if not part:
            continue
        matched = _RANGE.match(part)
        quality = _QUALITY.search(matched[3]) if matched else None
        if not matched or (quality and not _QVALUE.match(quality[1])) or (matched[1] == "*" and matched[2] != "*"):
            raise InvalidInputError(
                f"Accept holds {part[:200]!r}, which is not a media range such as 'text/html' or 'text/*;q=0.5'."
            )
        media = f"{matched[1]}/{matched[2]}".lower()
        media = _ALIASES.get(media, media)
        weights[media] = max(float(quality[1]) if quality else 1.0, weights.get(media, 0.0))
    return weights or {"*/*": 1.0}


def _quality(media: str, weights: dict[str, float]) -> float:
    for pattern in (media, media.partition("/")[0] + "/*", "*/*"):
        if pattern in weights:
            return weights[pattern]
    return 0.0


@functools.lru_cache(maxsize=512)
def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether the Accept-Encoding header allows gzip. Malformed parts are ignored: identity is always right."""
    qualities = {"gzip": 0.0}
    for element in accept_encoding[:_MAX_ACCEPT].lower().split(","):
        coding, _, parameters = element.strip().partition(";")
        matched = _QUALITY.search(";" + parameters)
        if matched and not _QVALUE.match(matched[1]):
            continue
        qualities[coding.strip()] = float(matched[1]) if matched else 1.0
    return (qualities["gzip"] or qualities.get("x-gzip", 0.0)) > 0 or (
        "*" in qualities and "gzip" not in accept_encoding.lower() and qualities["*"] > 0
    )
