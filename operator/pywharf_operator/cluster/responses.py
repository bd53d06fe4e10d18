"""Read the API server's responses: within a limit of bytes, as JSON, as a page of a list, or as an error."""

import re
from http import HTTPStatus
from typing import Final

import aiohttp
import msgspec

from pywharf_operator.spec.kinds import Json

_MOST_MESSAGE: Final = 16 * 1024
_WEBHOOK: Final = "failed calling webhook"


class KubeError(Exception):
    """A failed request to the API server. Its text contains no object."""

    def __init__(self, status: int | None, reason: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{reason}: {message}" if message else reason)
        self.status = status
        """HTTP status; None if there was no response."""
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def is_permanent(self) -> bool:
        """Whether the same request would be rejected again: the object, the permissions or a webhook are wrong."""
        return self.status in {400, 403, 404, 405, 413, 415, 422} or (
            self.status == HTTPStatus.INTERNAL_SERVER_ERROR and _WEBHOOK in self.message
        )


class ResponseTooLargeError(KubeError):
    """A response of more bytes than the limit."""

    def __init__(self, most: int) -> None:
        super().__init__(None, "AnswerTooLarge", f"the API server's answer has more than {most} bytes")


class NotLeaderError(KubeError):
    """A write by a replica that is not, or no longer, the leader."""

    def __init__(self) -> None:
        super().__init__(None, "NotLeader", "another replica leads, so this one writes nothing")


class _ListMeta(msgspec.Struct, rename={"token": "continue", "version": "resourceVersion"}):
    token: str = ""
    version: str = ""


class _RawPage(msgspec.Struct):
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[msgspec.Raw] | None = None


class Page(msgspec.Struct):
    """One page of a list, with its items undecoded."""

    items: list[msgspec.Raw]
    token: str
    """Where the next page begins; "" on the last one."""
    version: str
    """The resourceVersion of the list."""


def page_of(content: bytes) -> Page:
    """Decode one page of a list, but not its items. Raises KubeError."""
    try:
        page = msgspec.json.decode(content, type=_RawPage)
    except msgspec.DecodeError as error:
        raise KubeError(None, "Unreadable", "the API server's answer is no list") from error
    return Page(page.items or [], page.metadata.token, page.metadata.version)


async def content_of(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Read the body. Raises ResponseTooLargeError when it exceeds `most` bytes, by at most one chunk."""
    content = bytearray()
    async for piece in response.content.iter_any():
        content += piece
        if len(content) > most:
            response.close()
            raise ResponseTooLargeError(most)
    return bytes(content)


def decoded(content: bytes) -> Json:
    """Decode an object; anything else is an empty one. Raises KubeError if it is not JSON."""
    try:
        value = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise KubeError(None, "Unreadable", "the API server's answer is no JSON") from error
    return value if isinstance(value, dict) else {}


def error_of(status: int, content: bytes, retry_after: str | None) -> KubeError:
    """Return the error that a response of this status describes."""
    try:
        answer = msgspec.json.decode(content)
    except msgspec.DecodeError:
        answer = {}
    answer = answer if isinstance(answer, dict) else {}
    wait = float(retry_after) if retry_after and re.fullmatch("[0-9]{1,9}", retry_after) else None
    if wait is None and status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = 1.0
    # The message quotes users' text and is shown in log lines and conditions.
    message = "".join(c if c.isprintable() else " " for c in str(answer.get("message") or "")[:_MOST_MESSAGE])
    return KubeError(status, str(answer.get("reason") or f"HTTP {status}"), message, wait)
