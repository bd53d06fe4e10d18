"""The API client of the stand-in for a kubelet."""

import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from support.cluster.cluster import Cluster
from support.kubelet.volumes import Json


class ApiAnswerError(Exception):
    """An error response of the API server."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:500]}")
        self.status = status


class Api:
    """A client of the API server; the caller closes it."""

    def __init__(self, cluster: Cluster) -> None:
        self._url = cluster.url
        context = ssl.create_default_context(cafile=str(cluster.ca_file))
        self._client = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {cluster.token}", "User-Agent": "pywharf-tests-kubelet"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            connector=aiohttp.TCPConnector(ssl=context, limit=0),
        )

    async def close(self) -> None:
        await self._client.close()

    async def ask(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Json:
        """Send a request and return the JSON response. Raises ApiAnswerError."""
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type}
        timeout = aiohttp.ClientTimeout(total=30)
        async with self._client.request(
            method, self._url + path, data=content, headers=headers, timeout=timeout
        ) as answer:
            text = await answer.text()
            if answer.status >= 400:
                raise ApiAnswerError(answer.status, text)
            made: Json = json.loads(text)
            return made

    async def get(self, path: str) -> Json | None:
        try:
            return await self.ask("GET", path)
        except ApiAnswerError as error:
            if error.status == 404:
                return None
            raise

    async def watch(self, path: str, version: str) -> AsyncIterator[Json]:
        """Yield the events since `version` until the API server ends the watch. Raises ApiAnswerError."""
        parameters = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "300"}
        async with self._client.get(self._url + path, params=parameters) as answer:
            if answer.status >= 400:
                raise ApiAnswerError(answer.status, await answer.text())
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)
