"""Read who a person is from the headers of an authenticating proxy, such as oauth2-proxy. Pure.

X-Forwarded-User is the name, X-Forwarded-Groups the groups, separated by commas. Of the proxy's other headers none is
read: each one more is one more that a proxy must remove from what clients send.
"""

from collections.abc import Sequence

from pywharf.core.access.identities import ProxyUser

_MAX_NAME = 256
_MAX_GROUPS = 1000


def proxy_user_of(users: Sequence[str], groups: Sequence[str]) -> ProxyUser | None:
    """Return the person; None if the headers name nobody, or not clearly one.

    The arguments are each header's lines. A header that comes twice names nobody: a proxy that adds its own line to a
    client's would let clients choose. Groups that no entry could name (`proxy_groups`) are skipped, and so are those
    after the first thousand, so that what a proxy sends can grant less than it says, never more.
    """
    if len(users) != 1 or len(groups) > 1:
        return None
    user = users[0].strip()
    if not _is_name(user):
        return None
    named = (group.strip() for group in "".join(groups).split(",", _MAX_GROUPS)[:_MAX_GROUPS])
    return ProxyUser(user, tuple(dict.fromkeys(group for group in named if _is_name(group))))


def _is_name(text: str) -> bool:
    return 0 < len(text) <= _MAX_NAME and text.isprintable()
