"""One control plane for all processes of a test run: the first process starts it, the last one to end stops it.

Each user holds a shared lock until it ends, however it ends. The process that holds the control plane (the holder)
waits for the exclusive lock. The holder runs as `python -m support.cluster.shared_control_plane FOLDER PROGRAMS`.
"""

import contextlib
import fcntl
import json
import os
import secrets
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from support.cluster.cluster import Cluster, cluster_of, prepare
from support.cluster.control_plane import ControlPlane

START_S = 240.0
_TESTS = Path(__file__).resolve().parents[2]
_PATHS = ("ca_file", "kubeconfig", "kubectl_program", "folder")


@contextlib.contextmanager
def shared_cluster(folder: Path, own_folder: Path, programs: Path) -> Iterator[Cluster]:
    """Yield the cluster shared by all processes that pass the same `folder`; `own_folder` is this process's.

    Enter it only once in a process: the lock belongs to the process, so that no child holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "start.lock").open("w") as starting, (folder / "users.lock").open("a+b") as users:
        fcntl.flock(starting, fcntl.LOCK_EX)
        fcntl.lockf(users, fcntl.LOCK_SH)
        described = _read(folder) or _start(folder, programs)
        fcntl.flock(starting, fcntl.LOCK_UN)
        described.pop("holder")
        yield Cluster(**{**described, **{name: Path(described[name]) for name in _PATHS}, "folder": own_folder})


def _start(folder: Path, programs: Path) -> dict[str, Any]:
    """Start the holder, which immediately goes into the background, and wait until it reports that all is ready."""
    failure = folder / "failure.txt"
    failure.unlink(missing_ok=True)
    command = [sys.executable, "-m", "support.cluster.shared_control_plane", str(folder), str(programs)]
    with (folder / "holder.log").open("ab") as log:
        subprocess.run(
            command, cwd=_TESTS, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, check=True
        )
    end = time.monotonic() + START_S
    while True:
        if found := _read(folder):
            return found
        assert not failure.exists(), f"the control plane did not start:\n{failure.read_text()}"
        assert time.monotonic() < end, f"the control plane did not start in {START_S} s"
        time.sleep(0.05)


def _read(folder: Path) -> dict[str, Any] | None:
    """Return the holder's description while the holder lives. A lock shows that; its process number may be reused."""
    with (folder / "holder.lock").open("a+b") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with contextlib.suppress(FileNotFoundError):
                found: dict[str, Any] = json.loads((folder / "cluster.json").read_text())
                return found
    return None


def _hold(folder: Path, programs: Path) -> None:
    described = folder / "cluster.json"
    work = folder / f"control-plane-{secrets.token_hex(3)}"
    described.unlink(missing_ok=True)  # left by a holder that was killed
    with (
        (folder / "holder.lock").open("a+b") as alive,
        (folder / "users.lock").open("a+b") as users,
        ControlPlane(work, programs, prepare) as plane,
    ):
        fcntl.flock(alive, fcntl.LOCK_EX)
        unfinished = work / "cluster.json"
        content = asdict(cluster_of(plane, work)) | {"holder": os.getpid()}
        unfinished.write_text(json.dumps(content, default=str))
        unfinished.rename(described)
        fcntl.lockf(users, fcntl.LOCK_EX)  # granted once the last user has ended
        described.unlink()


def main(folder: Path, programs: Path) -> None:
    if os.fork():  # the caller must not wait for the holder
        return
    try:
        _hold(folder, programs)
    except BaseException:
        unfinished = folder / "failure.unfinished"
        unfinished.write_text(traceback.format_exc())
        unfinished.rename(folder / "failure.txt")
        raise


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
