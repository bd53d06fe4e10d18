"""Check the URLs in a configuration."""

import re
from urllib.parse import urlsplit

_CHARACTERS = re.compile(r"[!-~]*\Z")


def is_http(text: str) -> bool:
    """Return whether a text that is a URL or a path is a URL."""
    return text.lower().startswith(("http://", "https://"))


def check_url(url: str, field: str) -> None:
    """Raise ValueError unless `url` is http(s) with a host and without user info, query or fragment."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    # A URL that may hold a secret (user info, a token in the query) is not shown.
    if any(c in url for c in "@?#"):
        raise ValueError(
            f"{field} may hold no user info, query or fragment, so none of '@', '?' and '#'; leave them out"
        )
    if not valid or not _CHARACTERS.match(url):  # urlsplit ignores spaces and line ends
        raise ValueError(
            f"{field} is {url[:200]!r}; it must be an http or https URL such as https://index.example.com/simple/"
        )
