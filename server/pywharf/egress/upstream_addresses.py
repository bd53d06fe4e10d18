"""Check where an index's redirect leads: an index may not name this machine or its network."""

from yarl import URL

from pywharf.core.addresses import is_own
from pywharf.core.errors import UpstreamError
from pywharf.egress.policy import Egress


def redirected(here: URL, location: str, *, configured: URL, egress: Egress) -> URL:
    """Return the target of a redirect; `configured` is the URL requested first.

    Raises UpstreamError if the target is not allowed, ValueError if it is not a URL.
    """
    target = here.join(URL(location))
    if target.scheme not in {"http", "https"} or not target.host or target.user or target.password:
        why = "is no plain http(s) URL"
    elif here.scheme == "https" and target.scheme != "https":
        why = "is without TLS"
    elif egress.allows(str(target), configured=str(configured)):
        return target
    elif is_own(target.host):
        why = "is this machine or its network segment"
    else:
        why = "is not among the allowed endpoints; have its host added there"
    raise UpstreamError(f"The index redirects to an address that {why}.")
