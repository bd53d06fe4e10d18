"""A real `pywharf up` process over a folder of manifests."""

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.clients.computer import NOBODY, Index
from support.server.serving import PYWHARF, clean_environment
from support.waiting import wait_for


@dataclass(frozen=True)
class Up:
    """A running process. `url` has no trailing slash; `temporary` holds files that the process removes when it ends."""

    process: subprocess.Popen[bytes]
    url: str
    folder: Path
    root: Path
    temporary: Path
    said: Path
    warned: Path

    def index(self, repo: str, secret: str) -> Index:
        return Index(f"{self.url}/repo/{repo}/simple/", repo, secret)

    def out(self) -> str:
        return self.said.read_text()

    def err(self) -> str:
        return self.warned.read_text()

    def stop(self, timeout_s: float = 30.0) -> int:
        """Send SIGTERM and wait for the end; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


@contextlib.contextmanager
def upping(work: Path, folder: Path) -> Iterator[Up]:
    """Run `pywharf up` over `folder` within the context, with its packages and temporary files under `work`."""
    temporary = work / "temporary"
    temporary.mkdir(parents=True)
    said, warned, root = work / "stdout", work / "stderr", work / "root"
    # Requests to a repo's default extra index, which is beyond this machine, fail immediately.
    env = {"TMPDIR": str(temporary), "HTTP_PROXY": NOBODY, "HTTPS_PROXY": NOBODY}
    command = [PYWHARF, "up", str(folder), f"--root={root}", "--port=0"]
    with said.open("wb") as out, warned.open("wb") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=clean_environment(env))
    try:
        wait_for(
            lambda: "Serving on" in said.read_text() or process.poll() is not None,
            "`pywharf up` serves",
        )
        found = re.search(r"Serving on (http://\S+)", said.read_text())
        assert found, f"`pywharf up` did not start:\n{said.read_text()}{warned.read_text()}"
        yield Up(process, found[1], folder, root, temporary, said, warned)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
