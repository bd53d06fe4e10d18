"""The only client of the Kubernetes API: JSON objects in and out, over the connection that `kubernetes.aio` configures.

Objects are plain dicts: the client's models refuse fields that they do not know. Every write is server-side apply,
but for what has to be new (`create`), gone (`delete`) or merged into somebody else's object (`merge`).
"""

import asyncio
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient, Configuration

from pywharf import __version__
from pywharf.egress import proxy_for
from pywharf_operator.kinds import Kind
from pywharf_operator.render.labels import MANAGER
from pywharf_operator.spec import ObjectKey

Json = dict[str, Any]
PAGE = 500
"""Objects a page; larger lists are read page by page."""
_TIMEOUT_S = 30.0
_AT_ONCE = 24
"""Requests that run at the same time; what the API server gives one client is not much more."""
_TRIES = 4
_LONGEST_WAIT_S = 60.0
_NOT_FOUND, _CONFLICT, _TOO_MANY, _GONE, _FAILED = 404, 409, 429, 410, 500
_WEBHOOK = "failed calling webhook"
_EXISTS = "AlreadyExists"
"""Of two reasons for 409 at a POST; the other is a quota that others change at the same time."""
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_MANAGED = {"fieldManager": MANAGER}
_FORCED = _MANAGED | {"force": "true"}


class KubeError(Exception):
    """A request to the API server that failed. Its text holds no object."""

    def __init__(self, status: int | None, reason: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{reason}: {message}" if message else reason)
        self.status = status
        """HTTP status; None where there was no answer."""
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def is_permanent(self) -> bool:
        """Whether the same request would be refused again: the object, the permissions or a webhook are wrong."""
        return self.status in {400, 403, 404, 405, 413, 415, 422} or (
            self.status == _FAILED and _WEBHOOK in self.message
        )


class NotLeaderError(KubeError):
    """A write of a replica that may not write (any more)."""

    def __init__(self) -> None:
        super().__init__(None, "NotLeader", "another replica leads, so this one writes nothing")


async def connect() -> ApiClient:
    """Log in: with the variable KUBECONFIG as kubectl does, else as the pod's ServiceAccount, else ~/.kube/config."""
    configuration = Configuration()
    if "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
        kube_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        # The client reads the variable when it is imported, and never again.
        path = os.environ.get("KUBECONFIG")
        await kube_config.load_kube_config(path, client_configuration=configuration)  # type: ignore[no-untyped-call]
    configuration.connection_pool_maxsize = _AT_ONCE + 4
    # The client would let Python read NO_PROXY, which knows no ranges, and send credentials of a .netrc.
    configuration.client_session_kwargs = {"trust_env": False}
    configuration.proxy = configuration.proxy or proxy_for(configuration.host)
    client = ApiClient(configuration)
    client.user_agent = f"{MANAGER}/{__version__}"
    return client


class Kube:
    """Use as an async context. `may_write` is asked before each write; `count` is told each request's verb and code."""

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
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._not_before = 0.0
        """Monotonic time until which the API server asked for silence."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()  # type: ignore[no-untyped-call]

    async def get(self, kind: Kind, key: ObjectKey) -> Json | None:
        """The object; None where there is none."""
        try:
            return await self._call(_Request("get", "GET", kind.path(key.namespace, key.name)))
        except KubeError as error:
            if error.status == _NOT_FOUND:
                return None
            raise

    async def list(
        self, kind: Kind, namespace: str | None = None, labels: str | None = None, fields: str | None = None
    ) -> list[Json]:
        """Every object of a namespace, or without one of the cluster, as it is now. Kinds that it lacks have none.

        `labels` and `fields` are selectors.
        """
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        selected = {name: selector for name, selector in selectors.items() if selector}
        while True:
            try:
                return [item async for item in self._pages(kind, namespace, selected)]
            except KubeError as error:
                if error.status == _GONE:  # the list moved on while its pages were read
                    continue
                if error.status == _NOT_FOUND and kind.optional:
                    return []
                raise

    async def _pages(self, kind: Kind, namespace: str | None, selected: Mapping[str, str]) -> Any:  # noqa: ANN401 - an async generator of objects
        query: dict[str, str] = {"limit": str(PAGE), **selected}
        while True:
            page = await self._call(_Request("list", "GET", kind.path(namespace), query))
            for item in page.get("items") or []:
                # Items of a list do not say what they are.
                yield {"apiVersion": kind.api_version, "kind": kind.name} | item
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return
            query = {"limit": str(PAGE), "continue": token, **selected}

    async def exists(self, kind: Kind) -> bool:
        """Whether the cluster has the kind."""
        try:
            found = await self._call(_Request("get", "GET", f"/apis/{kind.api_version}"))
        except KubeError as error:
            if error.status == _NOT_FOUND:
                return False
            raise
        return any(resource.get("name") == kind.plural for resource in found.get("resources") or [])

    async def apply(self, kind: Kind, manifest: Mapping[str, Any], manager: str = MANAGER) -> Json:
        """Server-side apply: what the manifest says becomes so, what it said before and says no more is removed."""
        metadata = manifest["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"])
        query = _FORCED | {"fieldManager": manager}
        return await self._call(_Request("apply", "PATCH", path, query, manifest, _APPLY))

    async def apply_status(self, kind: Kind, key: ObjectKey, status: Mapping[str, Any], *, uid: str) -> Json:
        """Server-side apply of the status alone, of this very object."""
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": uid},
            "status": status,
        }
        path = kind.path(key.namespace, key.name, "status")
        return await self._call(_Request("apply", "PATCH", path, _FORCED, body, _APPLY))

    async def create(self, kind: Kind, manifest: Mapping[str, Any]) -> Json | None:
        """Make a new object; None where there is one of that name already."""
        try:
            path = kind.path(manifest["metadata"]["namespace"])
            return await self._call(_Request("create", "POST", path, _MANAGED, manifest))
        except KubeError as error:
            if error.status == _CONFLICT and error.reason == _EXISTS:
                return None
            raise

    async def replace(self, kind: Kind, manifest: Mapping[str, Any]) -> Json | None:
        """Put an object in the place of one with its resourceVersion; None where that changed meanwhile."""
        metadata = manifest["metadata"]
        try:
            path = kind.path(metadata["namespace"], metadata["name"])
            return await self._call(_Request("update", "PUT", path, _MANAGED, manifest))
        except KubeError as error:
            if error.status == _CONFLICT:
                return None
            raise

    async def merge(self, kind: Kind, key: ObjectKey, change: Mapping[str, Any]) -> None:
        """Merge into an object, lists replaced whole; nothing where it is gone."""
        try:
            path = kind.path(key.namespace, key.name)
            await self._call(_Request("patch", "PATCH", path, _MANAGED, change, _MERGE))
        except KubeError as error:
            if error.status != _NOT_FOUND:
                raise

    async def delete(self, kind: Kind, key: ObjectKey, uid: str) -> None:
        """Delete this very object; nothing where it is gone or another has its name."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._call(_Request("delete", "DELETE", kind.path(key.namespace, key.name), {}, body))
        except KubeError as error:
            if error.status not in {_NOT_FOUND, _CONFLICT}:
                raise

    async def _call(self, request: "_Request") -> Json:
        """One request; again where the API server says when. Raises KubeError."""
        for left in reversed(range(_TRIES)):
            try:
                async with self._places:
                    await self._be_silent()
                    if request.method != "GET" and not self._may_write():
                        raise NotLeaderError
                    return await self._once(request)
            except KubeError as error:
                if error.retry_after_s is None:
                    raise
                # No answer may silence everything for hours.
                wait = min(error.retry_after_s, _LONGEST_WAIT_S)
                self._not_before = max(self._not_before, time.monotonic() + wait)
                if not left or error.retry_after_s > wait:
                    raise
        raise AssertionError  # the last try returned or raised

    async def _be_silent(self) -> None:
        while (wait := self._not_before - time.monotonic()) > 0:  # noqa: ASYNC110 - it may be moved meanwhile
            await asyncio.sleep(wait)

    async def _once(self, request: "_Request") -> Json:
        headers = {"Accept": "application/json", "Content-Type": request.content_type}
        try:
            method, url, headers, _, _ = await self._client.param_serialize(
                request.method,
                request.path,
                query_params=list(request.query.items()),
                header_params=headers,
                auth_settings=["BearerToken"],
            )
            body = None if request.body is None else dict(request.body)
            response = await self._client.call_api(method, url, headers, body, _request_timeout=_TIMEOUT_S)
            content: bytes = await response.read()  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._count(request.verb, "none")
            raise KubeError(None, "Unreachable", f"the API server was not reached ({type(error).__name__})") from error
        self._count(request.verb, str(response.status))
        if response.status < 300:  # noqa: PLR2004 - HTTP's successes
            return _decoded(content)
        raise _error(response.status, content, response.headers.get("Retry-After"))


class _Request(msgspec.Struct, frozen=True):
    verb: str
    """As RBAC calls it, for metrics."""
    method: str
    path: str
    query: Mapping[str, str] = {}
    body: Mapping[str, Any] | None = None
    content_type: str = "application/json"


def _decoded(content: bytes) -> Json:
    try:
        decoded = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise KubeError(None, "Unreadable", "the API server's answer is no JSON") from error
    return decoded if isinstance(decoded, dict) else {}


def _error(status: int, content: bytes, retry_after: str | None) -> KubeError:
    try:
        answer = msgspec.json.decode(content)
    except msgspec.DecodeError:
        answer = {}
    answer = answer if isinstance(answer, dict) else {}
    wait = float(retry_after) if retry_after and re.fullmatch("[0-9]{1,9}", retry_after) else None
    if wait is None and status == _TOO_MANY:
        wait = 1.0
    return KubeError(status, str(answer.get("reason") or f"HTTP {status}"), str(answer.get("message") or ""), wait)


def in_cluster_namespace() -> str | None:
    """The namespace of the pod that this runs in; None outside a cluster."""
    try:
        return Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace").read_text(encoding="utf-8").strip()
    except OSError:
        return None
