"""Carry PyGithub's requests: only to allowed addresses, with a limit on bytes, and so that a call can be ended.

PyGithub blocks a separate thread for each call. The thread records here which call it works for. Everything that
PyGithub sends for the call, including requests that renew an App's token, passes through the adapter below.
"""

import contextlib
import io
import os
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from github.Requester import HTTPRequestsConnectionClass, HTTPSRequestsConnectionClass, Requester
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError
from urllib3.util import Retry

from pywharf.core.addresses import Reach
from pywharf.core.endpoints import EndpointNotAllowedError
from pywharf.core.unpacking import ACCEPTED, Body
from pywharf.egress.policy import Egress, proxy_for
from pywharf.egress.resolver import RefusedAddressError, resolve

_CHUNK = 64 * 1024
_MOVED = (301, 307, 308)
"""Statuses of redirects. PyGithub would follow a 301 without the query, and so to a page that was not requested."""


class Call:
    """One call of the API: its limits, and its connections, so that another thread can end it."""

    def __init__(self, egress: Egress, api_url: str, longest: int) -> None:
        self.egress = egress
        self.api_url = api_url
        self.longest = longest
        """Most bytes of an answer after unpacking."""
        self.refused: str | None = None
        """A sentence on why nothing was sent or why an answer was not read."""
        self.reach = Reach.GLOBAL
        self._lock = threading.Lock()
        self._ended = False
        self._guards: set[socket.socket] = set()

    def check(self) -> None:
        """Raise requests.Timeout if the call was ended."""
        if self._ended:
            raise requests.Timeout

    def end(self) -> None:
        """End the call, so that its thread is no longer blocked: shut down its connections and open no further ones."""
        with self._lock:
            self._ended = True
            for guard in self._guards:
                with contextlib.suppress(OSError):
                    guard.shutdown(socket.SHUT_RDWR)

    def use(self, connection: socket.socket) -> None:
        """Register a connection that the call uses from now on."""
        with self._lock:
            self.check()
            # Duplicate the descriptor: TLS takes over the original one before its handshake.
            self._guards.add(socket.socket(fileno=os.dup(connection.fileno())))

    def finish(self) -> None:
        """Forget the connections, which now serve other calls."""
        with self._lock:
            for guard in self._guards:
                guard.close()
            self._guards.clear()


class _Here(threading.local):
    call: Call | None = None
    session: requests.Session | None = None


_here = _Here()


@contextlib.contextmanager
def working_for(call: Call, session: requests.Session) -> Iterator[None]:
    """Send PyGithub's requests from this thread on behalf of the call, through the session."""
    _here.call, _here.session = call, session
    try:
        yield
    finally:
        _here.call = _here.session = None
        call.finish()


def new_session() -> requests.Session:
    """Return a session for one thread. It keeps its connections and does not read the environment by itself."""
    session = requests.Session()
    session.trust_env = False
    session.auth = Requester.noopAuth
    session.headers["Accept-Encoding"] = ACCEPTED
    adapter = _Adapter(max_retries=Retry(total=0, read=False))
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _call() -> Call:
    assert _here.call is not None  # noqa: S101 - PyGithub is used within `working_for` alone
    return _here.call


class _Guarded(HTTPConnection):
    """A connection to a checked address, which another thread can shut down at any time."""

    def _new_conn(self) -> socket.socket:
        call = _call()
        try:
            made = self._connected(call)
        except RefusedAddressError as error:
            call.refused = f"api_url: {error}."
            if call.reach is not Reach.GLOBAL:
                call.refused = "api_url names an address of this machine or its network segment; name GitHub's."
            raise NewConnectionError(self, str(error)) from error
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error
        try:
            call.use(made)
        except requests.Timeout:
            made.close()
            raise
        return made

    def _connected(self, call: Call) -> socket.socket:
        failure: OSError | None = None
        timeout = self.timeout if isinstance(self.timeout, int | float) else None
        for family, kind, protocol, _, address in resolve(self.host.strip("[]"), self.port or 0, call.reach):
            call.check()
            made = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    made.setsockopt(*option)
                made.settimeout(timeout)
                made.connect(address)
            except OSError as error:
                failure = error
                made.close()
            else:
                sys.audit("http.client.connect", self, self.host, self.port)
                return made
        raise failure or OSError

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Register the connection for the call, even if another call opened it."""
        if self.sock is not None:
            _call().use(self.sock)
        super().request(*args, **kwargs)


class _GuardedTls(_Guarded, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Guarded


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedTls


_POOLS = {"http": _Pool, "https": _TlsPool}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as of the base class
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def send(  # noqa: PLR0913, PLR0917 - as of the base class
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002 - as of the base class
        timeout: Any = None,  # noqa: ANN401
        verify: Any = True,  # noqa: ANN401, FBT002
        cert: Any = None,  # noqa: ANN401
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send one request and read its whole answer. Raises errors of `requests`."""
        del stream, proxies
        call, url = _call(), request.url or ""
        call.check()
        try:
            reach = call.egress.reach(url, configured=call.api_url)
        except EndpointNotAllowedError as error:
            call.refused = f"{error}."
            raise requests.exceptions.InvalidURL from error
        proxy = proxy_for(url)
        call.reach = Reach.OWN if proxy else reach  # a proxy may be anywhere, and resolves names itself
        chosen = {urlsplit(url).scheme: proxy} if proxy else {}
        response = super().send(request, stream=True, timeout=timeout, verify=verify, cert=cert, proxies=chosen)
        if response.status_code in _MOVED:
            response.close()
            raise requests.exceptions.RetryError
        try:
            content = self._read(response, call)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            response.close()
            raise requests.ConnectionError(type(error).__name__) from error
        except ValueError as error:
            response.close()
            call.refused = f"GitHub's answer cannot be read: {error}."
            raise requests.exceptions.ContentDecodingError from error
        response.raw.release_conn()
        response.raw = io.BytesIO(content)
        return response

    @staticmethod
    def _read(response: requests.Response, call: Call) -> bytes:
        body = Body(response.headers.get("Content-Encoding", ""), call.longest)
        while received := response.raw.read(_CHUNK, decode_content=False):
            call.check()
            body.feed(received)
        return body.whole()


class _OverTls(HTTPSRequestsConnectionClass):
    """PyGithub's connection class for HTTPS. It sends through the thread's session."""

    def __init__(self, host: str, port: int | None = None, timeout: int | None = None, **others: Any) -> None:
        self.host, self.port, self.protocol = host, port or 443, "https"
        self.timeout, self.verify, self.session = timeout, others.get("verify", True), _session()

    def close(self) -> None:
        """Keep the session's connections for the next call."""


class _Plain(HTTPRequestsConnectionClass):
    """PyGithub's connection class for HTTP. It sends through the thread's session."""

    def __init__(self, host: str, port: int | None = None, timeout: int | None = None, **others: Any) -> None:
        self.host, self.port, self.protocol = host, port or 80, "http"
        self.timeout, self.verify, self.session = timeout, others.get("verify", True), _session()

    def close(self) -> None:
        """Keep the session's connections for the next call."""


def _session() -> requests.Session:
    assert _here.session is not None  # noqa: S101 - PyGithub is used within `working_for` alone
    return _here.session


Requester.injectConnectionClasses(_Plain, _OverTls)
