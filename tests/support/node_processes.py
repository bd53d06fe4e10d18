"""Processes in namespaces of their own: network, mounts and process numbers.

All end with this process, and with the last of them the network and the mounts: the first one, which the others are
children of in the kernel's eyes, is killed with `unshare`, and that has a death signal (control_plane.spawn).
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support.control_plane import spawn
from support.waiting import wait_for

Process = subprocess.Popen[bytes]
# Where containers leave files whatever they are told: here it is theirs alone, and ends with them.
_HIDDEN = ("/run/netns", "/run/containerd", "/var/lib/cni")


@dataclass
class Namespaces:
    """Where they are, by the number of their first process."""

    first: int
    folder: Path
    """Of logs."""
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def network(self) -> list[str]:
        """What a command starts with that is to be in the network alone."""
        return ["nsenter", f"--target={self.first}", "--net", "--"]

    @property
    def everything(self) -> list[str]:
        return ["nsenter", f"--target={self.first}", "--net", "--mount", "--pid", "--"]

    def run(self, *command: str) -> str:
        """What it printed; an AssertionError where it fails."""
        done = subprocess.run([*self.everything, *command], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}{done.stdout}"
        return done.stdout

    def start(self, name: str, *command: str) -> Process:
        """One that is to run until the end."""
        with self.log(name).open("ab") as log:
            self.processes[name] = spawn([*self.everything, *command], log)
        return self.processes[name]

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def check(self) -> None:
        """All that were started are still there."""
        for name, process in self.processes.items():
            assert process.poll() is None, f"{name} ended:\n{self.log(name).read_text(errors='replace')[-6000:]}"


@contextlib.contextmanager
def namespaces(folder: Path, pause: Path) -> Iterator[Namespaces]:
    """New ones; `pause` is a program that only reaps."""
    unshared = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
    # Mounts are private to the namespace, and shared in it: kubelet makes them, containers get them.
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
                with contextlib.suppress(ProcessLookupError):  # with its children: a relay has one a connection
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
    """One of that name in each hierarchy of the machine; at the end they go with all in them, once that has ended."""
    try:
        for folder in _folders(name):
            folder.mkdir()
            _delegate(folder)
        yield
    finally:
        remove_cgroups(name, longest_s)


def remove_cgroups(name: str, longest_s: float = 20) -> None:
    """Those of that name, and all below them, once their processes have ended."""
    end = time.monotonic() + longest_s
    for parent in _folders(name):
        for folder in sorted([parent, *parent.glob("**/*/")], key=lambda path: -len(path.parts)):
            _remove(folder, end)


def _folders(name: str) -> list[Path]:
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return [root / name]
    # Version 1: a hierarchy for each controller.
    return [folder / name for folder in root.iterdir() if (folder / "cgroup.procs").exists()]


def _delegate(folder: Path) -> None:
    """What it needs before processes may be in its children."""
    for name in ("cpuset.cpus", "cpuset.mems"):  # version 1: empty in a new one
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
