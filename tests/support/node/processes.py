"""Processes in separate namespaces: network, mounts and process numbers.

All end with this process, and the network and the mounts end with the last of them. `unshare` has a death signal
(control_plane.spawn) and its end kills the first process. The kernel then kills all others of the namespace.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support.cluster.control_plane import spawn
from support.waiting import wait_for

Process = subprocess.Popen[bytes]
# Folders where containers always leave files. Here these are private to the namespace and end with it.
_HIDDEN = ("/run/netns", "/run/containerd", "/var/lib/cni")


@dataclass
class Namespaces:
    """Namespaces, identified by the number of their first process."""

    first: int
    folder: Path
    """Folder of the logs."""
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def network(self) -> list[str]:
        """Command prefix to enter only the network namespace."""
        return ["nsenter", f"--target={self.first}", "--net", "--"]

    @property
    def everything(self) -> list[str]:
        return ["nsenter", f"--target={self.first}", "--net", "--mount", "--pid", "--"]

    def run(self, *command: str) -> str:
        """Run a command in the namespaces and return its output. Raises AssertionError if it fails."""
        done = subprocess.run([*self.everything, *command], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}{done.stdout}"
        return done.stdout

    def start(self, name: str, *command: str) -> Process:
        """Start a process that runs until the namespaces end."""
        with self.log(name).open("ab") as log:
            self.processes[name] = spawn([*self.everything, *command], log)
        return self.processes[name]

    def restart(self, name: str) -> Process:
        """End a started process as a crash would, and start it again by the same command."""
        process = self.processes[name]
        command = [str(word) for word in process.args]  # type: ignore[union-attr]  # given as a list
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
        with self.log(name).open("ab") as log:
            self.processes[name] = spawn(command, log)
        return self.processes[name]

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def check(self) -> None:
        """Assert that all started processes are still running."""
        for name, process in self.processes.items():
            assert process.poll() is None, f"{name} ended:\n{self.log(name).read_text(errors='replace')[-6000:]}"


@contextlib.contextmanager
def namespaces(folder: Path, pause: Path) -> Iterator[Namespaces]:
    """Create namespaces within the context; `pause` is a program that only reaps."""
    unshared = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
    # Mounts are private to the namespace but shared inside it: the kubelet makes them, containers get them.
    hidden = "; ".join(f"mkdir -p {folder} && mount -t tmpfs none {folder}" for folder in _HIDDEN)
    script = f'set -e; mount --make-rshared /; {hidden}; exec "$0"'
    with (folder / "first.log").open("ab") as log:
        outer = spawn([*unshared, "--", "sh", "-c", script, str(pause)], log)
    try:
        made = Namespaces(wait_for(lambda: _ready_child(outer, pause), "new namespaces"), folder)
        try:
            yield made
        finally:
            for process in made.processes.values():
                with contextlib.suppress(ProcessLookupError):  # with its children: a relay has one for each connection
                    os.killpg(process.pid, signal.SIGKILL)
            for process in made.processes.values():
                process.wait(60)
    finally:
        outer.kill()
        outer.wait(60)


def _ready_child(outer: Process, pause: Path) -> int:
    assert outer.poll() is None, "unshare ended; it needs root"
    found = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
    with contextlib.suppress(FileNotFoundError):
        if found and Path(f"/proc/{found[0]}/exe").readlink() == pause.resolve():
            return int(found[0])
    return 0


@contextlib.contextmanager
def cgroups(name: str, longest_s: float = 20) -> Iterator[None]:
    """Create a cgroup of that name in each hierarchy of the machine.

    At the end they are removed with all below them, once their processes have ended.
    """
    try:
        for folder in _folders(name):
            folder.mkdir()
            _delegate(folder)
        yield
    finally:
        remove_cgroups(name, longest_s)


def remove_cgroups(name: str, longest_s: float = 20) -> None:
    """Remove the cgroups of that name and all below them, waiting up to `longest_s` for their processes to end."""
    end = time.monotonic() + longest_s
    for parent in _folders(name):
        for folder in sorted([parent, *parent.glob("**/*/")], key=lambda path: -len(path.parts)):
            _remove(folder, end)


def _folders(name: str) -> list[Path]:
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return [root / name]
    # Version 1 has a hierarchy for each controller.
    return [folder / name for folder in root.iterdir() if (folder / "cgroup.procs").exists()]


def _delegate(folder: Path) -> None:
    """Set what the cgroup needs before processes may be in its children."""
    for name in ("cpuset.cpus", "cpuset.mems"):  # version 1: empty in a new cgroup
        if (folder / name).exists() and not (folder / "cgroup.controllers").exists():
            (folder / name).write_text((folder.parent / name).read_text())
    controllers = folder / "cgroup.controllers"
    if controllers.exists() and (found := controllers.read_text().split()):
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in found))


def _remove(folder: Path, end: float) -> None:
    while time.monotonic() < end:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
