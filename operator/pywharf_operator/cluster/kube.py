"""The only client of the Kubernetes API. It reads and writes JSON over a connection that `kubernetes.aio` configures.

Objects are plain dicts, because the client's models reject unknown fields. Every write is a server-side apply, except
`create` (the object must be new), `replace` (it must be unchanged), `delete`, and `merge` into somebody else's object.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp
from kubernetes.aio.client import ApiClient

from pywharf_operator.cluster.requests import JSON, MAX_ANSWER_BYTES, METADATA, Listing, Request, selectors
from pywharf_operator.cluster.responses import KubeError, ResponseTooLargeError, decoded, page_of
from pywharf_operator.cluster.transport import CONNECT_S, Transport
from pywharf_operator.cluster.trimming import trimmed_metadata
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.kinds import Json, Kind
from pywharf_operator.spec.names import MANAGER

__all__ = ["Json", "Kube", "KubeError", "ResponseTooLargeError"]

Objects = list[Json]
PAGE = 500
"""Objects per page. Larger lists are read page by page; a page of too many bytes is read again with fewer objects."""
_MOST_PAGE_BYTES = 4 * 1024**2
_PAGE_DIVISOR = 8
"""Divisor for the number of objects of a page that has too many bytes."""
_CONCURRENT_PAGES = 6
"""Maximum number of pages that are read concurrently; it bounds the memory that they take together."""
_SPARE_S = 10.0
"""Seconds that a watch may last beyond the requested time."""
_EXISTS = "AlreadyExists"
"""One of two reasons for HTTP 409 after a POST. The other is a quota that others change concurrently."""
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_MANAGED = {"fieldManager": MANAGER}
_FORCED = _MANAGED | {"force": "true"}


class Kube:
    """The API client, an async context manager.

    `may_write` is called before each write. `count` is called with each request's verb and response code.
    """

    def __init__(
        self,
        client: ApiClient,
        *,
        may_write: Callable[[], bool] = lambda: True,
        count: Callable[[str, str], None] = lambda _verb, _code: None,
    ) -> None:
        self._transport = Transport(client, may_write, count)
        self._pages = asyncio.Semaphore(_CONCURRENT_PAGES)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.aclose()

    async def get(self, kind: Kind, key: ObjectKey) -> Json | None:
        """Return the object, or None if it does not exist."""
        try:
            return await self._transport.call(Request("get", "GET", kind.path(key.namespace, key.name)))
        except KubeError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def get_metadata(self, kind: Kind, key: ObjectKey) -> Json | None:
        """Return the object's trimmed metadata, or None if the object does not exist."""
        try:
            found = await self._transport.call(
                Request("get", "GET", kind.path(key.namespace, key.name), accept=METADATA)
            )
        except KubeError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return trimmed_metadata(kind, found)

    async def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        labels: str | None = None,
        *,
        fields: str | None = None,
        only: Callable[[Json], bool] | None = None,
    ) -> Objects:
        """List the current objects of a namespace, or without one of the cluster, and trim them.

        An optional kind that the cluster lacks has no objects. `labels` and `fields` are selectors; `only` returns
        whether to keep an object. Pages are bounded in bytes, and the next one is read after this one is trimmed.
        """
        return (await self.listed(kind, namespace, labels, fields=fields, only=only))[0]

    async def list_metadata(
        self,
        kind: Kind,
        namespace: str | None = None,
        labels: str | None = None,
        *,
        only: Callable[[Json], bool] | None = None,
    ) -> Objects:
        """List objects as `list` does, but request and keep only their metadata."""
        return (await self.listed(kind, namespace, labels, only=only, metadata=True))[0]

    async def listed(  # noqa: PLR0913 - all but the first are options
        self,
        kind: Kind,
        namespace: str | None = None,
        labels: str | None = None,
        *,
        fields: str | None = None,
        only: Callable[[Json], bool] | None = None,
        metadata: bool = False,
        each: Callable[[Json], None] | None = None,
        again: Callable[[], None] = lambda: None,
    ) -> tuple[Objects, str]:
        """List objects as `list` does; return them and the resourceVersion from which a watch continues.

        With `each`, no object is kept: `each` is called with every object, untrimmed. `again` is called before all
        objects are read again.
        """
        while True:
            try:
                return await self._read_pages(Listing(kind, namespace, labels, metadata, fields), only, each)
            except KubeError as error:
                if error.status == HTTPStatus.GONE:  # the list expired while its pages were read
                    again()
                    continue
                if error.status == HTTPStatus.NOT_FOUND and kind.optional:
                    return [], ""
                raise

    async def _read_pages(
        self, listing: Listing, only: Callable[[Json], bool] | None, each: Callable[[Json], None] | None
    ) -> tuple[Objects, str]:
        kept: Objects = []
        limit, token = PAGE, ""
        while True:
            most = _MOST_PAGE_BYTES if limit > 1 else MAX_ANSWER_BYTES
            try:
                async with self._pages:
                    content = await self._transport.read(listing.request(limit, token, most))
                    page = page_of(content)
                    # There is no await in this loop, so only one object is decoded at a time.
                    for raw in page.items:
                        item = listing.decoded(raw)
                        if each is not None:
                            each(item)
                        elif only is None or only(item):
                            kept.append(listing.trimmed(item))
                    size = len(content)
                    del content, page.items[:]
            except ResponseTooLargeError:
                if limit == 1:
                    raise
                limit = max(limit // _PAGE_DIVISOR, 1)
                continue
            if 2 * size < most:
                limit = min(2 * limit, PAGE)
            token = page.token
            if not token:
                return kept, page.version

    async def watch(  # noqa: PLR0913 - where, from when, and how long
        self, kind: Kind, namespace: str | None, labels: str | None, since: str, *, metadata: bool, seconds: int
    ) -> AsyncIterator[tuple[str, Json]]:
        """Yield the type and untrimmed object of each event until the API server ends the stream. Raises KubeError."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "timeoutSeconds": str(seconds),
        }
        accept = METADATA if metadata else JSON
        request = Request("watch", "GET", kind.path(namespace), query | selectors(labels), accept=accept)
        await self._transport.wait_until_allowed()
        # A stream that lasts longer than requested is dead.
        timeout = aiohttp.ClientTimeout(total=seconds + _SPARE_S, sock_connect=CONNECT_S)
        try:
            async with self._transport.response(request, timeout) as response:
                line = bytearray()
                async for piece in response.content.iter_any():
                    line += piece
                    while (end := line.find(b"\n")) >= 0:
                        event = decoded(bytes(line[:end]))
                        del line[: end + 1]
                        yield str(event.get("type")), event.get("object") or {}
                    if len(line) > MAX_ANSWER_BYTES:
                        raise ResponseTooLargeError(MAX_ANSWER_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubeError(None, "Unreachable", f"the watch broke ({type(error).__name__})") from error

    async def probe(self, kind: Kind, namespace: str) -> None:
        """Raise KubeError if the objects of the namespace may not be listed."""
        await self._transport.read(Listing(kind, namespace, None, metadata=True).request(1, "", MAX_ANSWER_BYTES))

    async def document(self, path: str, most: int) -> Json:
        """Return the JSON of at most `most` bytes at a path that belongs to no object. Raises KubeError."""
        return await self._transport.call(Request("get", "GET", path, accept=f"{JSON}, */*", most=most))

    async def token(self) -> str:
        """Return the token that this client logs in with; empty if it uses none."""
        return await self._transport.token()

    async def exists(self, kind: Kind) -> bool:
        """Return whether the cluster has the kind."""
        try:
            found = await self._transport.call(Request("get", "GET", f"/apis/{kind.api_version}"))
        except KubeError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return False
            raise
        return any(resource.get("name") == kind.plural for resource in found.get("resources") or [])

    async def apply(self, kind: Kind, manifest: Mapping[str, Any], manager: str = MANAGER) -> Json:
        """Apply a manifest (server-side): set its fields, and remove those that it had before and no longer has."""
        metadata = manifest["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"])
        query = _FORCED | {"fieldManager": manager}
        return await self._transport.call(Request("apply", "PATCH", path, query, manifest, _APPLY))

    async def apply_status(self, kind: Kind, key: ObjectKey, status: Mapping[str, Any], *, uid: str) -> Json:
        """Apply only the status (server-side), and only to the object with this uid."""
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": uid},
            "status": status,
        }
        path = kind.path(key.namespace, key.name, "status")
        return await self._transport.call(Request("apply", "PATCH", path, _FORCED, body, _APPLY))

    async def create(self, kind: Kind, manifest: Mapping[str, Any]) -> Json | None:
        """Create an object; return None if one of that name exists."""
        try:
            path = kind.path(manifest["metadata"]["namespace"])
            return await self._transport.call(Request("create", "POST", path, _MANAGED, manifest))
        except KubeError as error:
            if error.status == HTTPStatus.CONFLICT and error.reason == _EXISTS:
                return None
            raise

    async def replace(self, kind: Kind, manifest: Mapping[str, Any]) -> Json | None:
        """Replace the object that has the manifest's resourceVersion; return None if it has changed since."""
        metadata = manifest["metadata"]
        try:
            path = kind.path(metadata["namespace"], metadata["name"])
            return await self._transport.call(Request("update", "PUT", path, _MANAGED, manifest))
        except KubeError as error:
            if error.status == HTTPStatus.CONFLICT:
                return None
            raise

    async def merge(self, kind: Kind, key: ObjectKey, change: Mapping[str, Any]) -> None:
        """Merge a change into an object, replacing lists whole. Do nothing if the object is gone."""
        try:
            path = kind.path(key.namespace, key.name)
            await self._transport.call(Request("patch", "PATCH", path, _MANAGED, change, _MERGE))
        except KubeError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    async def delete(self, kind: Kind, key: ObjectKey, uid: str) -> None:
        """Delete the object with this uid. Do nothing if it is gone or another object has its name."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._transport.call(Request("delete", "DELETE", kind.path(key.namespace, key.name), {}, body))
        except KubeError as error:
            if error.status not in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:
                raise
