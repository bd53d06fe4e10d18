"""`make run-cluster` and `make stop-cluster` as a developer runs them: one serves on a local port, one cleans up."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.clients.computer import Computer
from support.distributions.wheels import wheel
from support.node.node import parts
from support.parts import CHECKOUT, missing
from support.ports import free_port
from support.waiting import wait_for

LONGEST_S = 300
PACKAGE = "parcel"


@pytest.fixture(scope="module")
def needed() -> None:
    if shutil.which("make") is None:
        missing("make", "apt-get install make")
    parts()


@pytest.fixture
def state(tmp_path: Path, needed: None) -> Iterator[Path]:
    folder = tmp_path / "state"
    yield folder
    if folder.exists():
        made(folder, "stop-cluster")


def environment() -> dict[str, str]:
    """Return an environment for make without the variables of a make that runs these tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


def make(folder: Path, target: str, *variables: str) -> list[str]:
    # The environment exists already: a test in another tree would only install the same packages again.
    return ["make", "--silent", "--old-file=.venv-dev", target, f"CLUSTER_STATE={folder}", *variables]


def made(folder: Path, target: str, *variables: str, status: int = 0) -> str:
    """Run the target and return its output as a person reads it."""
    command = make(folder, target, *variables)
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment(), capture_output=True, text=True, timeout=LONGEST_S, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def sockets_of(folder: Path) -> Path:
    return Path((folder / "node" / "sockets.txt").read_text())


def space(process: Path) -> str:
    try:
        return str((process / "ns" / "net").readlink())
    except OSError:
        return ""


def network_of(sockets: Path) -> str:
    """Return the network namespace of a process that names the sockets and is not in ours, or an empty string."""
    own = space(Path("/proc/self"))
    found = {space(process) for process in naming(str(sockets))} - {own, ""}
    return next(iter(found), "")


def naming(text: str) -> list[Path]:
    """Return the processes whose arguments contain the text."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (process / "cmdline").read_bytes():
                found.append(process)
        except OSError:
            continue
    return found


def no_trace(folder: Path, sockets: Path, network: str) -> None:
    assert not folder.exists()
    assert not sockets.exists()
    assert list(Path("/sys/fs/cgroup").glob(sockets.name)) == []
    assert list(Path("/sys/fs/cgroup").glob(f"*/{sockets.name}")) == []
    names = (str(folder), str(sockets))
    assert [process for name in names for process in naming(name)] == []
    processes = list(Path("/proc").glob("[0-9]*"))
    assert [process for process in processes if network and space(process) == network] == []
    mounts = Path("/proc/self/mountinfo").read_text()
    assert [name for name in (*names, network) if name and name in mounts] == []


def test_it_is_served_on_a_port_of_this_machine_and_stopped_without_a_trace(state: Path, tmp_path: Path):
    port = free_port()
    began = time.monotonic()
    printed = made(state, "run-cluster", f"PORT={port}")
    print(f"make run-cluster: {time.monotonic() - began:.0f} s")
    sockets = sockets_of(state)
    network = network_of(sockets)
    assert network
    (index,) = set(re.findall(rf"pip install --index-url (http://demo:demo-read@127\.0\.0\.1:{port}/\S+)", printed))
    (upload,) = re.findall(r"twine upload (--repository-url \S+ -u demo -p demo-write) dist", printed)
    (kubeconfig,) = re.findall(r"export KUBECONFIG=(\S+)", printed)
    computer = Computer(tmp_path / "home")
    computer.run("twine", "upload", "--non-interactive", *upload.split(), wheel(tmp_path, PACKAGE))
    download = ("download", "--no-cache-dir", "--no-deps", "--dest", tmp_path / "got", "--index-url", index, PACKAGE)
    computer.run("pip", *download, env={"NO_PROXY": "127.0.0.1"})
    assert [file.name.partition("-")[0] for file in (tmp_path / "got").iterdir()] == [PACKAGE]

    server = json.loads(Path(state / "ready.json").read_text())
    shown = subprocess.run(
        [server["kubectl"], "get", "pywharf", "--namespace=pywharf"],
        env={"KUBECONFIG": kubeconfig, "HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "packagerepo.pywharf.dev/demo" in shown

    again = made(state, "run-cluster", f"PORT={port}")
    assert "running already" in again
    assert index in again
    assert sockets_of(state) == sockets

    # An open connection keeps nothing running.
    with socket.create_connection(("127.0.0.1", port)):
        made(state, "stop-cluster")
        no_trace(state, sockets, network)
    assert "nothing is running" in made(state, "stop-cluster")


def test_a_start_that_is_interrupted_leaves_no_trace(state: Path):
    command = make(state, "run-cluster", f"PORT={free_port()}")
    with subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=environment(),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as running:
        wait_for((state / "node" / "sockets.txt").exists, "a node that starts", longest_s=LONGEST_S)
        sockets = sockets_of(state)
        network = wait_for(lambda: network_of(sockets), "its network", longest_s=LONGEST_S)
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        printed, _ = running.communicate(timeout=LONGEST_S)
        assert running.returncode != 0, printed
    no_trace(state, sockets, network)


def test_a_holder_that_was_killed_leaves_what_the_next_stop_removes(state: Path):
    with subprocess.Popen(
        make(state, "run-cluster", f"PORT={free_port()}"),
        cwd=CHECKOUT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        wait_for((state / "node" / "sockets.txt").exists, "a node that starts", longest_s=LONGEST_S)
        sockets = sockets_of(state)
        running.terminate()  # make alone: its command goes on
        holder = json.loads((state / "state.json").read_text())["pid"]
        os.kill(holder, signal.SIGKILL)
        running.wait(LONGEST_S)
    made(state, "stop-cluster")
    no_trace(state, sockets, "")


def test_a_port_that_is_in_use_is_reported_and_nothing_is_started(state: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        printed = made(state, "run-cluster", f"PORT={port}", status=2)
    assert f"port {port}" in printed
    assert not state.exists()


def test_another_folder_is_not_taken_for_one_of_its_own(tmp_path: Path, needed: None):
    (tmp_path / "letter.txt").touch()
    assert "not of this program" in made(tmp_path, "run-cluster", status=2)
    made(tmp_path, "stop-cluster")
    assert (tmp_path / "letter.txt").exists()
