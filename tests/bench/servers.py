"""The servers that are measured, each in its own process, all on one core."""

import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.data import SECRET
from bench.report import CACHED, DEFAULT, GUNICORN
from support.parts import peer
from support.ports import free_port
from support.server.serving import PYWHARF, clean_environment

START_S = 60.0
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"  # holds nginx, but is often missing from a user's PATH
NGINX = shutil.which("nginx", path=PATH) or "nginx"
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = CORES[0]
LOAD_CORES = set(CORES[1:]) or {SERVER_CORE}

NGINX_CONF = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_requests 1000000;
  gzip_static on;
  default_type application/vnd.pypi.simple.v1+json;
  open_file_cache max=1000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {folder}/html; index page; {more} }}
}}
"""


Running = contextlib.AbstractContextManager["Server"]


class MissingError(Exception):
    """A program is missing; the message says which and how to install it."""


@dataclass
class Server:
    """A running server; `headers` are what its clients must send."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    headers: Mapping[str, str]
    folder: Path

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Send one GET request. Returns its status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_S)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={**self.headers, **(headers or {})})
            response = connection.getresponse()
            return response.status, response.read()

    def until_200(self, path: str) -> None:
        """Request `path` until the server answers 200. Raises AssertionError if it exits or START_S seconds pass."""
        end = time.monotonic() + START_S
        answer = ""
        while time.monotonic() < end and self.process.poll() is None:
            try:
                status, body = self.get(path)
                answer = f"{status}: {body[:300]!r}"
                if status == http.HTTPStatus.OK:
                    return
            except OSError as error:
                answer = repr(error)
            time.sleep(0.002)
        msg = f"{self.name} did not answer {path} with 200 (exit status {self.process.poll()}); last: {answer}"
        raise AssertionError(msg)

    def _processes(self) -> list[psutil.Process]:
        main = psutil.Process(self.process.pid)
        return [main, *main.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that all of its processes have used so far."""
        return sum(sum(p.cpu_times()[:2]) for p in self._processes())

    def memory_mb(self) -> float:
        """Return the resident memory of all of its processes now, in 10⁶ bytes."""
        return sum(float(p.memory_info().rss) for p in self._processes()) / 1e6


def check_parts() -> None:
    """Check that the required programs are installed. Raises MissingError."""
    packages = {"wrk": "wrk", "nginx": "nginx-light", "taskset": "util-linux"}
    missing = [f"{program} (apt-get install {package})" for program, package in packages.items() if not _found(program)]
    missing += [
        f"{name} (make .venv-bench)"
        for name in ("pypi-server", "simpleindex", "devpi-server", "gunicorn")
        if not peer(name).exists()
    ]
    if missing:
        msg = f"Not installed: {', '.join(missing)}."
        raise MissingError(msg)


def _found(program: str) -> bool:
    return shutil.which(program, path=PATH) is not None


def versions() -> dict[str, str]:
    """Return the versions of the other servers."""
    pypiserver = subprocess.run([peer("pypi-server"), "--version"], capture_output=True, text=True, check=True)
    nginx = subprocess.run([NGINX, "-v"], capture_output=True, text=True, check=True)
    return {"nginx": nginx.stderr.strip().rpartition("/")[2], "pypiserver": pypiserver.stdout.split()[-1]}


def authorization(repo: str) -> dict[str, str]:
    token = base64.b64encode(f"{repo}:{SECRET}".encode()).decode()
    return {"Authorization": f"Basic {token}"}


@contextlib.contextmanager
def pywharf(
    folder: Path, root: Path, config: str, repo: str, flags: Sequence[str] = ("--access_log=off",)
) -> Iterator[Server]:
    """Run pywharf. Clients authenticate as `repo`, which `config` must contain; it may contain others."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.toml"
    path.write_text(config)
    port = free_port()
    command = [PYWHARF, "server", str(root), f"--config={path}", "--host=127.0.0.1", f"--port={port}"]
    headers = authorization(repo)
    with _running("pywharf", [*command, "--extra_index_url=", *flags], port, folder, headers=headers) as server:
        yield server


PYPISERVER = {
    DEFAULT: ("--backend=simple-dir", "--server=wsgiref"),
    CACHED: ("--backend=cached-dir", "--server=wsgiref"),
    GUNICORN: ("--backend=cached-dir", "--server=gunicorn"),
}


@contextlib.contextmanager
def pypiserver(folder: Path, packages: Path, name: str) -> Iterator[Server]:
    """Run pypiserver, without authentication."""
    port = free_port()
    command = [str(peer("pypi-server")), "run", "-i", "127.0.0.1", "-p", str(port), "-P", ".", "-a", "."]
    command += ["--disable-fallback", "--log-stream=none", *PYPISERVER[name], str(packages)]
    env = {"GUNICORN_CMD_ARGS": "--log-level=error"}
    with _running(name, command, port, folder, env=env) as server:
        yield server


@contextlib.contextmanager
def devpi(folder: Path, mirrored: str | None = None) -> Iterator[Server]:
    """Run devpi-server with an index `/bench/uploads/` that the server's headers may publish to.

    With the URL of an index to be mirrored, it also has `/bench/mirror/`. Clients log in once and send the token, as
    devpi's own does: devpi takes 0.2 seconds to check a password.
    """
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "devpi"
    subprocess.run([peer("devpi-init"), "--serverdir", data, "--no-root-pypi"], capture_output=True, check=True)
    command = [str(peer("devpi-server")), "--serverdir", str(data), "--host", "127.0.0.1", "--port", str(port)]
    with _running("devpi", command, port, folder) as server:
        server.until_200("/+api")
        _put(port, "/bench", {"password": SECRET}, {})
        login = _put(port, "/+login", {"user": "bench", "password": SECRET}, {}, method="POST")
        token = base64.b64encode(f"bench:{login['result']['password']}".encode()).decode()
        server.headers = {"X-Devpi-Auth": token}
        _put(port, "/bench/uploads", {"type": "stage", "bases": []}, server.headers)
        if mirrored is not None:
            _put(port, "/bench/mirror", {"type": "mirror", "mirror_url": mirrored}, server.headers)
        yield server


@contextlib.contextmanager
def proxpi(folder: Path, mirrored: str) -> Iterator[Server]:
    """Run proxpi as its container image does, by gunicorn with threads, for the index at this URL."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(peer("gunicorn")), "--preload", "--worker-class=gthread", "--threads=8", "--log-level=error"]
    command += [f"--bind=127.0.0.1:{port}", "proxpi.server:app"]
    env = {"PROXPI_INDEX_URL": mirrored, "PROXPI_CACHE_DIR": str(folder / "files"), "PROXPI_LOGGING_LEVEL": "ERROR"}
    accepts = {"Accept": "application/vnd.pypi.simple.v1+json"}  # without it a page is a 406
    with _running("proxpi", command, port, folder, headers=accepts, env=env) as server:
        server.until_200("/health")
        yield server


def _put(port: int, path: str, value: object, headers: Mapping[str, str], method: str = "PUT") -> Any:
    """Send JSON to devpi's API. Return the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_S)
    with contextlib.closing(connection):
        sent = {"Content-Type": "application/json", "Accept": "application/json", **headers}
        connection.request(method, path, json.dumps(value), sent)
        response = connection.getresponse()
        content = response.read()
    assert response.status < http.HTTPStatus.BAD_REQUEST, (path, response.status, content[:300])
    return json.loads(content)


@contextlib.contextmanager
def simpleindex(folder: Path, projects: Path) -> Iterator[Server]:
    """Run simpleindex, without authentication. Its pages hold no hashes."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "simpleindex.toml"
    configuration.write_text(
        f'[server]\nhost = "127.0.0.1"\nport = {port}\nlog-level = "error"\naccess-log = false\n'
        f'[routes."{{project}}"]\nsource = "path"\nto = "{projects}/{{project}}"\n'
    )
    with _running("simpleindex", [str(peer("simpleindex")), str(configuration)], port, folder) as server:
        yield server


@contextlib.contextmanager
def nginx(folder: Path, more: str = "", cores: Iterable[int] = (SERVER_CORE,)) -> Iterator[Server]:
    """Run nginx, which serves `folder`/html. A folder's page is its file `page`. `more` are lines of its server."""
    port = free_port()
    (folder / "html").mkdir(parents=True, exist_ok=True)
    configuration = folder / "nginx.conf"
    configuration.write_text(
        ("user root;\n" if os.geteuid() == 0 else "") + NGINX_CONF.format(folder=folder, port=port, more=more)
    )
    command = [NGINX, "-c", str(configuration), "-e", str(folder / "error.log")]
    with _running("nginx", command, port, folder, cores=cores) as server:
        yield server


@contextlib.contextmanager
def _running(
    name: str,
    command: Sequence[str],
    port: int,
    folder: Path,
    *,
    headers: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    cores: Iterable[int] = (SERVER_CORE,),
) -> Iterator[Server]:
    folder.mkdir(parents=True, exist_ok=True)
    shown = ",".join(map(str, cores))
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            ["taskset", "-c", shown, *command], stdout=log, stderr=log, env=clean_environment(env)
        )
    try:
        yield Server(name, port, process, headers or {}, folder)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
