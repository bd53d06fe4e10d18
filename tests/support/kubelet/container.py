"""The state of a container, as a pod's status reports it."""

import contextlib
import datetime as dt
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from support.kubelet.probes import Probing
from support.kubelet.volumes import Json

_MESSAGE_BYTES = 4096
_LOG_BYTES, _LOG_LINES = 2048, 80


@dataclass
class Container:
    """A container and its state so far."""

    spec: Json
    probing: Probing
    process: "subprocess.Popen[bytes] | None" = None
    restarts: int = 0
    state: Json = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last_state: Json = field(default_factory=dict)
    logs: list[Path] = field(default_factory=list)
    swept: bool = False
    """Whether none of its processes is left."""
    done: bool = False
    """Whether it has ended for good and is never started again."""

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def status(self) -> Json:
        running = "running" in self.state
        return {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": self.spec["image"],
            "containerID": f"stand-in://{self.process.pid}" if self.process else "",
            "ready": running and self.probing.ready,
            "started": running and self.probing.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last_state,
        }

    def signal(self, number: int) -> None:
        """Send a signal to the container's first process alone."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def signal_all(self, number: int) -> None:
        """Send a signal to the process and its children."""
        if self.process is not None and not self.swept:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def sweep(self) -> None:
        """End the remaining processes; afterwards the process number may be reused."""
        self.signal_all(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(30)
        self.swept = True


def termination_message(spec: Json, path: Path, log: Path, status: int) -> str:
    """Return the termination message: the file's content, or the end of the log if the policy says so."""
    written = path.read_bytes()[:_MESSAGE_BYTES]
    if not written and status and spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        written = b"\n".join(log.read_bytes()[-_LOG_BYTES:].splitlines()[-_LOG_LINES:])
    return written.decode(errors="replace")


def now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
