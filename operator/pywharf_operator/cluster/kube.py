"""The only client of the Kubernetes API. It reads and writes JSON over a connection that `kubernetes.aio` configures.

Objects are plain dicts, because the client's models reject unknown fields. Every write is a server-side apply, except
`create` (the object must be new), `replace` (it must be unchanged), `delete`, and `merge` into somebody else's object.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from kubernetes.aio.client import ApiClient

from pywharf_operator.cluster.login import MAX_CONCURRENT
from pywharf_operator.cluster.responses import (
    KubeError,
    NotLeaderError,
    ResponseTooLargeError,
    content_of,
    decoded,
    error_of,
    page_of,
)
from pywharf_operator.cluster.trimming import trimmed, trimmed_metadata
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.kinds import Json, Kind
from pywharf_operator.spec.names import MANAGER

__all__ = ["Json", "Kube", "KubeError", "ResponseTooLargeError"]

Objects = list[Json]
PAGE = 500
"""Objects per page. Larger lists are read page by page; a page of too many bytes is read again with fewer objects."""
_MOST_PAGE_BYTES = 4 * 1024**2
_MOST_ANSWER_BYTES = 8 * 1024**2
"""Maximum bytes of a response with one object. etcd accepts 1.5 MiB per request, unless configured otherwise."""
_PAGE_DIVISOR = 8
"""Divisor for the number of objects of a page that has too many bytes."""
_CONCURRENT_PAGES = 6
"""Maximum number of pages that are read concurrently; it bounds the memory that they take together."""
_TIMEOUT_S = 30.0
_CONNECT_S = 5.0
_SPARE_S = 10.0
"""Seconds that a watch may last beyond the requested time."""
_TRIES = 4
_LONGEST_WAIT_S = 60.0
_EXISTS = "AlreadyExists"
"""One of two reasons for HTTP 409 after a POST. The other is a quota that others change concurrently."""
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_MANAGED = {"fieldManager": MANAGER}
_FORCED = _MANAGED | {"force": "true"}
_JSON = "application/json"
_METADATA = f"{_JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST = f"{_JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


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
        self._client = client
        self._may_write = may_write
        self._count = count
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._pages = asyncio.Semaphore(_CONCURRENT_PAGES)
        self._not_before = 0.0
        """Monotonic time before which the API server asked for no further request."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()  # type: ignore[no-untyped-call]

    async def get(self, kind: Kind, key: ObjectKey) -> Json | None:
        """Return the object, or None if it does not exist."""
        try:
            return await self._call(_Request("get", "GET", kind.path(key.namespace, key.name)))
        except KubeError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def get_metadata(self, kind: Kind, key: ObjectKey) -> Json | None:
        """Return the object's trimmed metadata, or None if the object does not exist."""
        try:
            found = await self._call(
                _Request("get", "GET", kind.path(key.namespace, key.name), accept=f"{_METADATA},{_JSON}")
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
                return await self._read_pages(_Listing(kind, namespace, labels, metadata, fields), only, each)
            except KubeError as error:
                if error.status == HTTPStatus.GONE:  # the list expired while its pages were read
                    again()
                    continue
                if error.status == HTTPStatus.NOT_FOUND and kind.optional:
                    return [], ""
                raise

    async def _read_pages(
        self, listing: "_Listing", only: Callable[[Json], bool] | None, each: Callable[[Json], None] | None
    ) -> tuple[Objects, str]:
        kept: Objects = []
        limit, token = PAGE, ""
        while True:
            most = _MOST_PAGE_BYTES if limit > 1 else _MOST_ANSWER_BYTES
            try:
                async with self._pages:
                    content = await self._read(listing.request(limit, token, most))
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
        accept = f"{_METADATA},{_JSON}" if metadata else _JSON
        request = _Request("watch", "GET", kind.path(namespace), query | _selectors(labels), accept=accept)
        await self._wait_until_allowed()
        # A stream that lasts longer than requested is dead.
        timeout = aiohttp.ClientTimeout(total=seconds + _SPARE_S, sock_connect=_CONNECT_S)
        try:
            async with self._response(request, timeout) as response:
                line = bytearray()
                async for piece in response.content.iter_any():
                    line += piece
                    while (end := line.find(b"\n")) >= 0:
                        event = decoded(bytes(line[:end]))
                        del line[: end + 1]
                        yield str(event.get("type")), event.get("object") or {}
                    if len(line) > _MOST_ANSWER_BYTES:
                        raise ResponseTooLargeError(_MOST_ANSWER_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubeError(None, "Unreachable", f"the watch broke ({type(error).__name__})") from error

    async def probe(self, kind: Kind, namespace: str) -> None:
        """Raise KubeError if the objects of the namespace may not be listed."""
        await self._read(_Listing(kind, namespace, None, metadata=True).request(1, "", _MOST_ANSWER_BYTES))

    async def document(self, path: str, most: int) -> Json:
        """Return the JSON of at most `most` bytes at a path that belongs to no object. Raises KubeError."""
        return await self._call(_Request("get", "GET", path, accept=f"{_JSON}, */*", most=most))

    async def token(self) -> str:
        """Return the token that this client logs in with; empty if it uses none."""
        header: str = await self._client.configuration.get_api_key_with_prefix("BearerToken") or ""
        return header.strip().rpartition(" ")[2]

    async def exists(self, kind: Kind) -> bool:
        """Return whether the cluster has the kind."""
        try:
            found = await self._call(_Request("get", "GET", f"/apis/{kind.api_version}"))
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
        return await self._call(_Request("apply", "PATCH", path, query, manifest, _APPLY))

    async def apply_status(self, kind: Kind, key: ObjectKey, status: Mapping[str, Any], *, uid: str) -> Json:
        """Apply only the status (server-side), and only to the object with this uid."""
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": uid},
            "status": status,
        }
        path = kind.path(key.namespace, key.name, "status")
        return await self._call(_Request("apply", "PATCH", path, _FORCED, body, _APPLY))

    async def create(self, kind: Kind, manifest: Mapping[str, Any]) -> Json | None:
        """Create an object; return None if one of that name exists."""
        try:
            path = kind.path(manifest["metadata"]["namespace"])
            return await self._call(_Request("create", "POST", path, _MANAGED, manifest))
        except KubeError as error:
            if error.status == HTTPStatus.CONFLICT and error.reason == _EXISTS:
                return None
            raise

    async def replace(self, kind: Kind, manifest: Mapping[str, Any]) -> Json | None:
        """Replace the object that has the manifest's resourceVersion; return None if it has changed since."""
        metadata = manifest["metadata"]
        try:
            path = kind.path(metadata["namespace"], metadata["name"])
            return await self._call(_Request("update", "PUT", path, _MANAGED, manifest))
        except KubeError as error:
            if error.status == HTTPStatus.CONFLICT:
                return None
            raise

    async def merge(self, kind: Kind, key: ObjectKey, change: Mapping[str, Any]) -> None:
        """Merge a change into an object, replacing lists whole. Do nothing if the object is gone."""
        try:
            path = kind.path(key.namespace, key.name)
            await self._call(_Request("patch", "PATCH", path, _MANAGED, change, _MERGE))
        except KubeError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    async def delete(self, kind: Kind, key: ObjectKey, uid: str) -> None:
        """Delete the object with this uid. Do nothing if it is gone or another object has its name."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._call(_Request("delete", "DELETE", kind.path(key.namespace, key.name), {}, body))
        except KubeError as error:
            if error.status not in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:
                raise

    async def _call(self, request: "_Request") -> Json:
        return decoded(await self._read(request))

    async def _read(self, request: "_Request") -> bytes:
        """Send a request; retry it if the API server says when. Raises KubeError."""
        for left in reversed(range(_TRIES)):
            try:
                async with self._slots:
                    await self._wait_until_allowed()
                    if request.method != "GET" and not self._may_write():
                        raise NotLeaderError
                    return await self._once(request)
            except KubeError as error:
                if error.retry_after_s is None:
                    raise
                # No response may stop all requests for hours.
                wait = min(error.retry_after_s, _LONGEST_WAIT_S)
                self._not_before = max(self._not_before, time.monotonic() + wait)
                if not left or error.retry_after_s > wait:
                    raise
        raise AssertionError  # the last try returned or raised

    async def _wait_until_allowed(self) -> None:
        while (wait := self._not_before - time.monotonic()) > 0:  # noqa: ASYNC110 - it may be postponed meanwhile
            await asyncio.sleep(wait)

    async def _once(self, request: "_Request") -> bytes:
        try:
            async with self._response(request, _TIMEOUT_S) as response:
                return await content_of(response, request.most)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._count(request.verb, "none")
            raise KubeError(None, "Unreachable", f"the API server was not reached ({type(error).__name__})") from error

    @contextlib.asynccontextmanager
    async def _response(
        self, request: "_Request", longest: float | aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the response of a successful request. Raises KubeError for any other."""
        method, url, headers, _, _ = await self._client.param_serialize(
            request.method,
            request.path,
            query_params=list(request.query.items()),
            header_params={"Accept": request.accept, "Content-Type": request.content_type},
            auth_settings=["BearerToken"],
        )
        body = None if request.body is None else dict(request.body)
        answer = await self._client.call_api(method, url, headers, body, _request_timeout=longest)
        async with answer.response as response:
            self._count(request.verb, str(response.status))
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:  # past HTTP's successes
                content = await content_of(response, _MOST_ANSWER_BYTES)
                raise error_of(response.status, content, response.headers.get("Retry-After"))
            yield response


class _Request(msgspec.Struct, frozen=True):
    verb: str
    """The RBAC verb, for metrics."""
    method: str
    path: str
    query: Mapping[str, str] = {}
    body: Mapping[str, Any] | None = None
    content_type: str = _JSON
    accept: str = _JSON
    most: int = _MOST_ANSWER_BYTES


class _Listing(msgspec.Struct, frozen=True):
    """The parameters of a list request."""

    kind: Kind
    namespace: str | None
    labels: str | None
    metadata: bool
    fields: str | None = None

    def request(self, limit: int, token: str, most: int) -> _Request:
        query = {"limit": str(limit)} | ({"continue": token} if token else {})
        query |= _selectors(self.labels, self.fields)
        accept = f"{_METADATA_LIST},{_JSON}" if self.metadata else _JSON
        return _Request("list", "GET", self.kind.path(self.namespace), query, accept=accept, most=most)

    def decoded(self, raw: msgspec.Raw) -> Json:
        # The items of a list have no apiVersion and no kind.
        return {"apiVersion": self.kind.api_version, "kind": self.kind.name} | decoded(bytes(raw))

    def trimmed(self, item: Json) -> Json:
        return (trimmed_metadata if self.metadata else trimmed)(self.kind, item)


def _selectors(labels: str | None, fields: str | None = None) -> dict[str, str]:
    selectors = {"labelSelector": labels, "fieldSelector": fields}
    return {name: selector for name, selector in selectors.items() if selector}
