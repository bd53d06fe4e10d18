"""Content that a client gets of the pull-through cache, beside the kinds that a backend gives."""

from collections.abc import Awaitable, Callable
from typing import BinaryIO

import msgspec

from pywharf.index.ports.packages import Content, LocalContent


class GrowingContent(msgspec.Struct, frozen=True):
    """Content in a file of this machine that is still being written. It is not verified before it is complete."""

    file: BinaryIO
    """The file, open for this content alone. It must be closed by its receiver."""
    size: int | None
    """The size in bytes that was announced; None: nobody knows it before the end."""
    ready: Callable[[int, int | None], Awaitable[int]]
    """Waits until bytes from a position on may be sent, and returns the position of the first that may not yet.

    The second position is the end of what is sent, exclusive; None: the content's own end. The last bytes before it
    become ready only when the whole content is verified. The same position comes back at the content's end. Raises
    UpstreamError, or another error of the tree, if the content is wrong or does not arrive.
    """


class FetchableContent(msgspec.Struct, frozen=True):
    """Content that is not kept. It is fetched when a client needs its bytes, not for a HEAD request."""

    size: int | None
    """The size in bytes as another index says; None: it does not say."""
    begin: Callable[[], Awaitable[Content | GrowingContent]]
    """Finds or fetches the content, and returns when its first bytes are about to come. Raises UpstreamError."""


class CachedContent(msgspec.Struct, frozen=True):
    """Content in a file of this machine that may have been removed since it was last seen."""

    local: LocalContent
    otherwise: FetchableContent
    """What to send if the file is missing or damaged."""


ServedContent = Content | CachedContent | FetchableContent
