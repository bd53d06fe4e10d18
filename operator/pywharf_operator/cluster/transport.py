"""The transport of the API client: it bounds, delays, retries and counts requests, and writes only with the Lease."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Final

import aiohttp
from kubernetes.aio.client import ApiClient

from pywharf_operator.cluster.login import MAX_CONCURRENT
from pywharf_operator.cluster.requests import MAX_ANSWER_BYTES, Request
from pywharf_operator.cluster.responses import KubeError, NotLeaderError, content_of, decoded, error_of
from pywharf_operator.spec.kinds import Json

CONNECT_S: Final = 5.0
_TIMEOUT_S: Final = 30.0
_TRIES: Final = 4
_LONGEST_WAIT_S: Final = 60.0


class Transport:
    """The requests of one client of the API server."""

    def __init__(self, client: ApiClient, may_write: Callable[[], bool], count: Callable[[str, str], None]) -> None:
        self._client = client
        self._may_write = may_write
        self._count = count
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._not_before = 0.0
        """Monotonic time before which the API server asked for no further request."""

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def token(self) -> str:
        """Return the token that the client logs in with; empty if it uses none."""
        header: str = await self._client.configuration.get_api_key_with_prefix("BearerToken") or ""
        return header.strip().rpartition(" ")[2]

    async def call(self, request: Request) -> Json:
        """Send a request and return the JSON of its response. Raises KubeError."""
        return decoded(await self.read(request))

    async def read(self, request: Request) -> bytes:
        """Send a request; retry it if the API server says when. Raises KubeError."""
        for left in reversed(range(_TRIES)):
            try:
                async with self._slots:
                    await self.wait_until_allowed()
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

    async def wait_until_allowed(self) -> None:
        """Wait as long as the API server asked for."""
        while (wait := self._not_before - time.monotonic()) > 0:  # noqa: ASYNC110 - it may be postponed meanwhile
            await asyncio.sleep(wait)

    async def _once(self, request: Request) -> bytes:
        try:
            async with self.response(request, _TIMEOUT_S) as response:
                return await content_of(response, request.most)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._count(request.verb, "none")
            raise KubeError(None, "Unreachable", f"the API server was not reached ({type(error).__name__})") from error

    @contextlib.asynccontextmanager
    async def response(
        self, request: Request, longest: float | aiohttp.ClientTimeout
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
                content = await content_of(response, MAX_ANSWER_BYTES)
                raise error_of(response.status, content, response.headers.get("Retry-After"))
            yield response
