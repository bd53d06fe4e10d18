"""A client of the Kubernetes API for tests: JSON by path, over persistent connections."""

import contextlib
import http.client
import json
import select
import ssl
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

Json = dict[str, Any]
MANAGER = "tests"
"""Default field manager."""
JSON, MERGE, JSON_PATCH = "application/json", "application/merge-patch+json", "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
_TIMEOUT_S = 60.0


class ApiError(Exception):
    """An error response of the API server."""

    def __init__(self, status: int, answer: Json, retry_after: str | None = None) -> None:
        super().__init__(f"{status} {answer.get('reason')}: {answer.get('message')}")
        self.status = status
        self.answer = answer
        """The Status object."""
        self.retry_after = retry_after

    @property
    def message(self) -> str:
        return str(self.answer.get("message", ""))


class KubeClient:
    """A thread-safe client. Paths start with /api or /apis; pywharf_operator.spec.kinds builds them."""

    def __init__(self, url: str, ca_file: Path, token: str, agent: str = "pywharf-tests") -> None:
        self._address = urlsplit(url)
        self._context = ssl.create_default_context(cafile=str(ca_file))
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": agent, "Accept": JSON}
        self._own = threading.local()
        self._all: list[http.client.HTTPSConnection] = []

    def close(self) -> None:
        for connection in self._all:
            connection.close()

    def request(self, method: str, path: str, body: Any = None, content_type: str = JSON, **query: str) -> Json:
        """Send a request and return the JSON response. Raises ApiError, OSError and http.client.HTTPException."""
        with self.open(method, path + (f"?{urlencode(query)}" if query else ""), body, content_type) as response:
            answer = _decoded(response.read())
            if response.status >= http.HTTPStatus.BAD_REQUEST:
                raise ApiError(response.status, answer, response.headers.get("Retry-After"))
        return answer

    @contextlib.contextmanager
    def open(
        self, method: str, target: str, body: Any = None, content_type: str = JSON
    ) -> Iterator[http.client.HTTPResponse]:
        """Open a streaming response, such as a watch. Bytes are sent unchanged.

        This thread's next request must wait until the response has ended.
        """
        content = body if body is None or isinstance(body, bytes) else json.dumps(body)
        connection = self._connection()
        headers = self._headers | {"Content-Type": content_type}
        try:
            connection.request(method, self._address.path.rstrip("/") + target, content, headers)
            with connection.getresponse() as response:
                yield response
        except ApiError:
            raise
        except BaseException:
            connection.close()
            raise

    def get(self, path: str) -> Json | None:
        """Return the object; None if it does not exist."""
        try:
            return self.request("GET", path)
        except ApiError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return None
            raise

    def list(self, path: str, **query: str) -> list[Json]:
        """Return the items of all pages; `query` holds parameters such as labelSelector."""
        items: list[Json] = []
        more = {"limit": "500"}
        while more:
            page = self.request("GET", path, **query, **more)
            items += page["items"]
            token = page["metadata"].get("continue")
            more = {"limit": "500", "continue": token} if token else {}
        return items

    def create(self, path: str, body: Mapping[str, Any], manager: str = MANAGER) -> Json:
        return self.request("POST", path, body, fieldManager=manager)

    def replace(self, path: str, body: Mapping[str, Any], manager: str = MANAGER) -> Json:
        return self.request("PUT", path, body, fieldManager=manager)

    def apply(self, path: str, body: Mapping[str, Any], manager: str = MANAGER, *, force: bool = False) -> Json:
        """Apply an object server-side, or a status by its path."""
        return self.request("PATCH", path, body, APPLY, fieldManager=manager, force=json.dumps(force))

    def patch(self, path: str, body: Any, content_type: str = MERGE, manager: str = MANAGER) -> Json:
        return self.request("PATCH", path, body, content_type, fieldManager=manager)

    def patch_status(self, path: str, status: Mapping[str, Any], manager: str = MANAGER) -> Json:
        """Merge into the status of the object at `path`, as its controller does."""
        return self.patch(f"{path}/status", {"status": status}, manager=manager)

    def delete(self, path: str, propagation: str = "Background", *, grace_s: int | None = None) -> None:
        """Delete the object; does nothing if it does not exist."""
        body = {"propagationPolicy": propagation} | ({} if grace_s is None else {"gracePeriodSeconds": grace_s})
        try:
            self.request("DELETE", path, body)
        except ApiError as error:
            if error.status != http.HTTPStatus.NOT_FOUND:
                raise

    def _connection(self) -> http.client.HTTPSConnection:
        connection: http.client.HTTPSConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            assert self._address.hostname is not None
            connection = http.client.HTTPSConnection(
                self._address.hostname, self._address.port, context=self._context, timeout=_TIMEOUT_S
            )
            self._own.connection = connection
            self._all.append(connection)
        elif connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
            connection.close()  # readable without a pending request: the server has closed it
        return connection


def _decoded(content: bytes) -> Json:
    try:
        decoded = json.loads(content)
    except ValueError:
        decoded = None
    return decoded if isinstance(decoded, dict) else {"message": content.decode(errors="replace")}
