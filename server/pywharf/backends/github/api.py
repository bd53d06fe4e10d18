"""Call GitHub's REST and GraphQL API through PyGithub, in separate threads: it blocks, and this server must not.

What GitHub refuses becomes this project's errors in `refusals`.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import github
import requests
from github.Auth import AppInstallationAuth, Auth
from github.Requester import Requester

from pywharf.backends.github.answer import Answer, decoded
from pywharf.backends.github.refusals import (
    REDIRECTED,
    Step,
    limited,
    refusal,
    refusal_of_call,
    unreachable,
)
from pywharf.backends.github.transport import Call, new_session, working_for
from pywharf.core.backoff import backoff_s
from pywharf.core.errors import (
    BackendUnavailableError,
    RateLimitedError,
)
from pywharf.egress.policy import Egress
from pywharf.index.ports import RateLimit

_logger = logging.getLogger(__name__)
T = TypeVar("T")

_THREADS = 4
_TIMEOUT_S = 20
"""Most seconds between two bytes of an answer."""
_UPLOAD_TIMEOUT_S = 120
"""The same for an upload, which GitHub is slow to store."""
_WHOLE_S = 30.0
"""Seconds for a call including its whole answer, even if bytes keep trickling in."""
_BLOB_WHOLE_S = 180.0
"""The same for an index file, which may be large."""
_SLOWEST_UPLOAD = 64 * 1024
"""Fewest bytes per second of an upload. A slower upload is ended."""
_ANSWER_BYTES = 16 * 1024 * 1024
"""Most bytes of an answer after unpacking. The longest answer, a page of a hundred releases, has far fewer."""
BLOB_BYTES = 150 * 1024 * 1024
"""The same for a file's content in base64. GitHub itself limits a file to 100 MiB."""
_ATTEMPTS = 3
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 1.0
_VERSION = "2022-11-28"
_USER_AGENT = "pywharf"


class GithubApi:
    """A client of the API with one token. After a rate-limit refusal it sends nothing until the given time."""

    def __init__(
        self,
        api_url: str,
        auth: Callable[[], Auth],
        *,
        egress: Egress | None = None,
        is_clients: bool = False,
        threads: int = _THREADS,
    ) -> None:
        self.url = api_url.rstrip("/")
        self.host = urlsplit(api_url).hostname or ""
        self.egress = egress or Egress()
        self._auth = auth
        self._is_clients = is_clients
        """Whether the token is a client's own. If so, GitHub's refusals are reported as errors of that client."""
        self._threads = ThreadPoolExecutor(threads, "pywharf-github")
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        """One session for each thread."""
        self.max_wait_s = 0.0
        """Most seconds to wait for a rate limit to end. A longer limit raises RateLimitedError."""
        self.rate_limit: RateLimit | None = None
        """The core rate limit that GitHub last reported; None before the first report."""
        self._not_before = 0.0

    async def get(
        self,
        path: str,
        parameters: Mapping[str, str] | None = None,
        *,
        etag: str | None = None,
        accept: str | None = None,
        longest: int = _ANSWER_BYTES,
    ) -> Answer:
        """Send a GET request and return an answer of at most `longest` bytes.

        With `etag`, status 304 means that nothing has changed, and does not count against the rate limit.

        Raises BackendUnavailableError, but not for 404, 409 and 422, which are returned as answers.
        """
        headers = {"If-None-Match": etag} if etag else {}
        if accept is not None:
            headers["Accept"] = accept
        return await self.retried(lambda: self._ask("GET", path, parameters, headers, None, longest=longest))

    async def send(self, verb: str, path: str, data: Any = None) -> Answer:  # noqa: ANN401 - JSON
        """Send a write without retrying: a request that was cut off may have taken effect."""
        return await self._ask(verb, path, None, {}, data)

    async def graphql(self, query: str, variables: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
        """Send a GraphQL query and return the `data` of its answer."""

        def ask(requester: Requester) -> Answer:
            got, data = requester.graphql_query(query, dict(variables))
            return Answer(200, got, data["data"])

        answer = await self.retried(lambda: self._limited(ask))
        if answer.status != HTTPStatus.OK:  # also what the token may not know of
            raise refusal(Step.QUERY, answer)
        return answer.data

    async def retried(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Repeat a read-only call until it succeeds, a bounded number of times."""
        for attempt in range(_ATTEMPTS):
            began = time.monotonic()
            try:
                return await ask()
            except RateLimitedError:
                raise
            except BackendUnavailableError:
                # A server polls again soon. Retrying a call that took so long would only take as long again.
                is_slow = time.monotonic() - began >= _TIMEOUT_S and not self.max_wait_s
                if attempt == _ATTEMPTS - 1 or self._is_clients or is_slow:
                    raise
            await asyncio.sleep(backoff_s(attempt, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S))
        raise AssertionError  # pragma: no cover - the loop returns or raises

    async def upload(self, url: str, name: str, content: Path) -> Answer:
        """Add an asset to a release, by its `upload_url`."""
        target = url.partition("{")[0]

        def send(requester: Requester) -> Answer:
            headers = {"Content-Type": "application/octet-stream"}
            with content.open("rb") as file:
                got, data = requester.requestMemoryBlobAndCheck("POST", target, {"name": name}, headers, file)
            return Answer(201, got, data)

        whole_s = _UPLOAD_TIMEOUT_S + (await asyncio.to_thread(content.stat)).st_size / _SLOWEST_UPLOAD
        return await self._limited(send, timeout_s=_UPLOAD_TIMEOUT_S, whole_s=whole_s)

    async def headers(self) -> Mapping[str, str]:
        """Return the headers of a call that bypasses PyGithub because its answer may be too large to keep whole.

        Pass the answer to `heed`.
        """

        def authorization(requester: Requester) -> Answer:
            auth = requester.auth
            value = None if auth is None else f"{auth.token_type} {auth.token}"
            return Answer(200, {}, value)

        answer = await self._limited(authorization)
        return {"Authorization": answer.data, "X-GitHub-Api-Version": _VERSION, "User-Agent": _USER_AGENT}

    def heed(self, answer: Answer) -> Answer:
        """Note the rate limit that an answer reports, and return the answer. Raises the error for a refusal."""
        self._note(answer.headers)
        error = refusal_of_call(answer, time.time(), is_clients=self._is_clients)
        if isinstance(error, RateLimitedError):
            self._not_before = max(self._not_before, time.time() + error.retry_after_s)
        if error is not None:
            raise error
        return answer

    async def aclose(self) -> None:
        """Make no further calls. A call under way ends by its time limit."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for session in self._sessions:
            session.close()

    async def _ask(  # noqa: PLR0913 - the parts of a request
        self,
        verb: str,
        path: str,
        parameters: Mapping[str, str] | None,
        headers: Mapping[str, str],
        data: Any,  # noqa: ANN401 - JSON
        *,
        longest: int = _ANSWER_BYTES,
    ) -> Answer:
        # A copy, because PyGithub writes the token into it.
        sent = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": _VERSION, **headers}

        def ask(requester: Requester) -> Answer:
            status, got, text = requester.requestJson(verb, path, dict(parameters or {}), dict(sent), data)
            return Answer(status, got, decoded(text))

        return await self._limited(
            ask, longest=longest, whole_s=_WHOLE_S if longest == _ANSWER_BYTES else _BLOB_WHOLE_S
        )

    async def _limited(
        self,
        ask: Callable[[Requester], Answer],
        *,
        timeout_s: int = _TIMEOUT_S,
        longest: int = _ANSWER_BYTES,
        whole_s: float = _WHOLE_S,
    ) -> Answer:
        """Make a call and return its answer. Wait for rate limits to end, but for at most `max_wait_s`."""
        deadline = time.monotonic() + self.max_wait_s
        while True:
            try:
                self._check_limit()
                return await self._call(ask, timeout_s, longest, whole_s)
            except RateLimitedError as error:
                if time.monotonic() + error.retry_after_s > deadline:
                    raise
                _logger.warning("%s Waiting.", error)
                await asyncio.sleep(error.retry_after_s)

    def _check_limit(self) -> None:
        left = self._not_before - time.time()
        if left > 0:
            raise limited(int(left) + 1)

    async def _call(self, ask: Callable[[Requester], Answer], timeout_s: int, longest: int, whole_s: float) -> Answer:
        call = Call(self.egress, self.url, longest)
        working = asyncio.get_running_loop().run_in_executor(self._threads, self._in_thread, ask, timeout_s, call)
        try:
            async with asyncio.timeout(whole_s):
                return self.heed(await working)
        except TimeoutError:
            raise BackendUnavailableError(f"GitHub did not answer within {whole_s:.0f} seconds; try again.") from None
        finally:
            if not working.done() or working.cancelled():
                call.end()

    def _in_thread(self, ask: Callable[[Requester], Answer], timeout_s: int, call: Call) -> Answer:
        try:
            with working_for(call, self._session()):
                requester = self._requester(timeout_s)
                _take_token(requester)
                return ask(requester)
        except github.GithubException as error:
            headers = {str(key).lower(): str(value) for key, value in (error.headers or {}).items()}
            return Answer(error.status, headers, error.data)
        except requests.exceptions.RetryError:
            raise BackendUnavailableError(REDIRECTED) from None
        except (requests.RequestException, RuntimeError) as error:
            raise (BackendUnavailableError(call.refused) if call.refused else unreachable(error)) from None

    def _session(self) -> requests.Session:
        """Return the thread's own session."""
        kept: requests.Session | None = self._local.__dict__.get("session")
        if kept is None:
            kept = self._local.__dict__["session"] = new_session()
            self._sessions.append(kept)
        return kept

    def _requester(self, timeout_s: int) -> Requester:
        """Return the thread's own requester: PyGithub keeps a call's state in its connection."""
        made: dict[int, Requester] = self._local.__dict__.setdefault("requesters", {})
        if timeout_s not in made:
            client = github.Github(
                base_url=self.url,
                auth=self._auth(),
                timeout=timeout_s,
                user_agent=_USER_AGENT,
                verify=_authorities(),
                # The session controls retries, and makes none.
                retry=None,
                # PyGithub would sleep between calls. Only GitHub's own limits are respected here.
                seconds_between_requests=None,
                seconds_between_writes=None,
            )
            made[timeout_s] = client.requester
        return made[timeout_s]

    def _note(self, headers: Mapping[str, str]) -> None:
        if headers.get("x-ratelimit-resource", "core") != "core":
            return
        try:
            limit, remaining, reset = (
                int(float(headers[f"x-ratelimit-{key}"])) for key in ("limit", "remaining", "reset")
            )
        except (KeyError, ValueError):
            return
        self.rate_limit = RateLimit(limit, remaining, reset)


def _authorities() -> str | bool:
    """Return the certificate authorities to trust: those of every other connection of the server, or of `requests`."""
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if os.environ.get(variable):
            return os.environ[variable]
    return True


def _take_token(requester: Requester) -> None:
    """Fetch an App's hourly token first, so that a refusal of it is not taken for an answer to the actual request."""
    if isinstance(requester.auth, AppInstallationAuth):
        try:
            _ = requester.auth.token
        except github.GithubException as error:
            if (
                error.status in {HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS}
                or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
            ):  # as any call
                raise
            raise refusal(Step.FETCH_TOKEN, Answer(error.status, {}, error.data)) from None
        except ValueError:  # from the library that signs; its text may show the key
            raise BackendUnavailableError(
                "The private key of the GitHub App cannot be used; take the PEM text that GitHub gave."
            ) from None
