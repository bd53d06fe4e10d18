"""A real `pywharf server` process, and a few requests to it."""

import base64
import contextlib
import os
import re
import secrets
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.server.calling import call
from support.waiting import stretched, wait_for

PYWHARF = str(Path(sys.executable).with_name("pywharf"))
START_S = 20.0
VARIABLES = "PYWHARF_COMMAND_"

CONFIG = """
[demo]
type = "file_system"
read_secret = "demo-read"
write_secret = "demo-write"

[other]
type = "file_system"
read_secret = "other-read"
write_secret = "other-write"
index_filename = "index.json"
"""


@dataclass
class Server:
    """A running server process; `url` has no trailing slash."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    root: Path
    secrets: set[str] = field(default_factory=set)
    """Secrets that must not appear in its log, besides those of the configuration."""

    def repo(self, name: str = "demo", secret: str | None = None) -> str:
        """Return the index URL of a repo, with credentials if a secret is given."""
        scheme, _, rest = self.url.partition("://")
        user = f"{name}:{secret}@" if secret is not None else ""
        return f"{scheme}://{user}{rest}/repo/{name}/simple/"

    @property
    def internal_url(self) -> str:
        """The URL of its internal port, which the test must have enabled."""
        found = re.search(r"GET /config on (http://\S+)", self.text())
        assert found, f"the server has no internal port; its log:\n{self.text()}"
        return found[1]

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 30.0) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def text(self) -> str:
        """Return the log so far. It may lack the last lines of what clients have already received: `settled_text`."""
        return self.log.read_text()

    def settled_text(self) -> str:
        """Return the log after all requests that have been answered so far are in it.

        The server writes a request's line just after the response, so a client may end before the line is there. A
        request on a new connection is answered after that: the event loop needs at most two rounds from a response's
        last byte to its line, and more than that to accept a connection. This holds for one process, with its access
        log on.
        """
        assert self.text().count("Serving on") == 1, "several processes write this log"
        path = f"/marker-{secrets.token_hex(8)}"
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        call(f"{self.url}{path}", context=context)
        wait_for(lambda: path in self.text(), "a line of the access log")
        before = self.text().partition(path)[0]
        return before[: before.rfind("\n") + 1]


_SECRET = re.compile(r"""\w*(?:secret|raw)\w*\s*=\s*["']([^"']{6,})["']""")


def check_log(server: Server, config: str) -> None:
    """Assert that a log holds no traceback and no secret, in any form in which a client sends it."""
    log = server.text()
    tables = re.split(r"^\[([^\]]+)\]", config, flags=re.MULTILINE)
    forms = {secret: secret for secret in server.secrets}
    for name, table in zip(tables[1::2], tables[2::2], strict=True):
        for secret in _SECRET.findall(table):
            forms[secret] = secret
            # Without the last four characters, which may hold bits of the following text.
            forms[base64.b64encode(f"{name}:{secret}".encode()).decode().rstrip("=")[:-4]] = f"{name}:{secret}"
    check_text(log, forms)


def check_text(
    log: str, forms: Mapping[str, str], signs: Sequence[str] = ("Traceback", "Logging error", "Warning:")
) -> None:
    """Assert that a log holds no sign of a fault and none of the forms, which map to the secrets to report."""
    shown = [secret for form, secret in forms.items() if form in log]
    assert not shown, f"the log of the server holds the secrets {shown}:\n{log}"
    for sign in signs:
        at = log.find(sign)
        assert at < 0, f"the log of the server holds {sign!r}:\n…{log[max(0, at - 1000) : at + 5000]}"


NOBODY = "http://127.0.0.1:9"
"""A proxy that does not exist, so that every fetch from beyond this machine fails immediately."""
_ENCLOSED = {
    "HTTP_PROXY": NOBODY,
    "HTTPS_PROXY": NOBODY,
    "ALL_PROXY": NOBODY,
    "NO_PROXY": "127.0.0.1,127.0.0.0/8,localhost",
}
_STEERING = ("PYWHARF_", "PIP_", "UV_", "TWINE_", "POETRY_")


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without settings of pywharf and clients, and without access to other hosts."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_STEERING) and not name.lower().endswith("_proxy")
    }
    return kept | _ENCLOSED | dict(extra or {})


@contextlib.contextmanager
def running(
    folder: Path,
    flags: Sequence[str] = (),
    *,
    config: str | None = CONFIG,
    env: Mapping[str, str] | None = None,
    root: Path | None = None,
    log_may_hold_tracebacks: bool = False,
    program: Sequence[str] = (PYWHARF,),
    arguments: bool = True,
) -> Iterator[Server]:
    """Run `pywharf server` on a free loopback port without an extra index, unless `flags` or `env` say otherwise.

    The configuration is written to `folder`/config.toml; with None the server gets no configuration. The process is
    always ended on leaving, and its log is then checked with `check_log`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root = root or folder / "root"
    config_path = folder / "config.toml"
    if config is not None and not config_path.exists():
        config_path.write_text(config)
    log = folder / f"server-{time.monotonic_ns()}.log"
    given = {flag.partition("=")[0].replace("-", "_") for flag in flags}
    given |= {"__" + name.removeprefix(VARIABLES).lower() for name in env or {} if name.startswith(VARIABLES)}
    defaults = {
        "__host": "--host=127.0.0.1",
        "__port": "--port=0",
        "__extra_index_url": "--extra_index_url=",
        **({} if config is None else {"__config": f"--config={config_path}"}),
    }
    command = [*program]
    if arguments:  # otherwise `env` holds all settings
        command += ["server", str(root), *(v for k, v in defaults.items() if k not in given), *flags]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=clean_environment(env))
    try:
        server = Server(process, _url(process, log), log, root)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
    if not log_may_hold_tracebacks:
        check_log(server, f"{config or ''}\n{_read_if_there(config_path)}")


def _read_if_there(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _url(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait for the log line with the server's URL and return that URL."""
    began = time.monotonic()
    while time.monotonic() < began + stretched(START_S):
        found = re.search(r"Serving on (https?://\S+)", log.read_text())
        if found:
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.02)
    msg = f"the server did not start (status {process.poll()}); its log:\n{log.read_text()}"
    raise AssertionError(msg)
