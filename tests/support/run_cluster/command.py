"""`make run-cluster` and `make stop-cluster`: the chart and examples/quickstart on a local node or CONTEXT's cluster.

A state folder records what was started; it exists as long as anything of that exists.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.cluster.build import CLUSTER, HELM, TESTS
from support.node.node import sockets_file
from support.node.processes import remove_cgroups
from support.parts import CHECKOUT
from support.run_cluster.install import NAMESPACE, REPO, RunError, Tools, crds_there, install, program, uninstall
from support.run_cluster.install import namespace_is_there as there
from support.run_cluster.node import node_folder, ready_file, say

STOP_S = 90.0
_STARTED = 19
"""Index of the start time among the fields of /proc/PID/stat, counted from the process state."""


def start(state: Path, port: int, context: str, image: str) -> None:
    if (found := _read(state)) is not None:
        if found["kind"] == "context" and found.get("ready"):
            say("it is running already")
            _print(_given_text(found["context"]))
            return
        if found["kind"] == "node" and _is_alive(found):
            if not ready_file(state).exists():
                raise RunError("it is being started already")
            say("it is running already")
            _print(_node_text(state))
            return
        say("one that has ended is removed first")
        stop(state)
    try:
        state.mkdir(parents=True)
    except FileExistsError:
        raise RunError(f"{state} is there, and not of this program: name another (CLUSTER_STATE=…)") from None
    try:
        if context:
            _print(_start_given(state, context, image))
        else:
            _print(_start_node(state, port))
    except BaseException:
        say("it did not start; what there is of it is removed")
        stop(state)
        raise


def stop(state: Path) -> None:
    found = _read(state)
    if found is None:
        if state.is_dir() and not any(state.iterdir()):
            state.rmdir()
        say("nothing is running")
        return
    if found["kind"] == "context":
        tools = _given_tools(found["context"], found["kubeconfig"])
        uninstall(tools, found["crds"], say)
    else:
        _stop_node(state, found)
    _remove(state)
    say("stopped, and nothing of it is left")


def _start_node(state: Path, port: int) -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            _write(state, {"kind": "none"})
            raise RunError(f"port {port} of 127.0.0.1: {error.strerror}; name another (PORT=…)") from None
    log = state / "holder.log"
    command = [sys.executable, "-m", "support.run_cluster.node", str(state), str(port)]
    with log.open("wb") as file:
        holder = subprocess.Popen(
            command, cwd=TESTS, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    _write(state, {"kind": "node", "pid": holder.pid, "started": _started(holder.pid)})
    with log.open(errors="replace") as written:
        while not ready_file(state).exists():
            ended = holder.poll() is not None
            sys.stderr.write(written.read())
            sys.stderr.flush()
            if ended:
                raise RunError("")
            time.sleep(0.1)
    holder.returncode = 0  # it keeps running; this process does not wait for it
    return _node_text(state)


def _stop_node(state: Path, found: dict[str, Any]) -> None:
    with contextlib.suppress(ProcessLookupError):
        if _is_alive(found):
            os.kill(found["pid"], signal.SIGTERM)
            _until_ended(found, STOP_S)
        if _is_alive(found):
            say("it does not end; it is killed")
            os.kill(found["pid"], signal.SIGKILL)
            _until_ended(found, STOP_S)
    with contextlib.suppress(FileNotFoundError):  # left by a holder that was killed
        sockets = Path(sockets_file(node_folder(state)).read_text())
        _kill_left(sockets)
        remove_cgroups(sockets.name)
        shutil.rmtree(sockets, ignore_errors=True)


def _kill_left(sockets: Path) -> None:
    """Kill the remaining processes that name the node's unique folder: relays of connections that are still open."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{sockets}/".encode() in (folder / "cmdline").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)


def _start_given(state: Path, context: str, image: str) -> str:
    if not image:
        _write(state, {"kind": "none"})
        raise RunError("CONTEXT needs IMAGE=…, an image of this tree that the cluster's nodes can pull or have")
    kubeconfig = os.environ.get("KUBECONFIG", "")
    _write(state, {"kind": "none"})
    tools = _given_tools(None if context == "current" else context, kubeconfig)
    if context == "current":
        context = tools.run_kubectl("config", "current-context").strip()
        tools = _given_tools(context, kubeconfig)
    if there(tools):
        raise RunError(f"the namespace {NAMESPACE} is there in {context} already; it is left alone")
    found = {"kind": "context", "context": context, "kubeconfig": kubeconfig, "crds": crds_there(tools)}
    _write(state, found)
    install(tools, image, say)
    _write(state, found | {"ready": True})
    return _given_text(context)


def _given_tools(context: str | None, kubeconfig: str) -> Tools:
    environment = {"KUBECONFIG": kubeconfig} if kubeconfig else {}
    return Tools(program("kubectl", CLUSTER), program("helm", HELM), environment, context)


def _node_text(state: Path) -> str:
    ready = json.loads(ready_file(state).read_text())
    kubectl, host = ready["kubectl"], f"127.0.0.1:{ready['port']}"
    named = "kubectl" if shutil.which("kubectl") else kubectl
    return f"""
    PackageRepo {REPO} is served. From this machine:

      pip install --index-url http://demo:demo-read@{host}/repo/{REPO}/simple/ PROJECT
      uv pip install --index-url http://demo:demo-read@{host}/repo/{REPO}/simple/ PROJECT
      twine upload --repository-url http://{host}/repo/{REPO}/simple/ -u demo -p demo-write dist/*

    {_inside_text()}
    The cluster:

      export KUBECONFIG={ready["kubeconfig"]}
      {named} get pywharf --namespace {NAMESPACE}

    {_stop_text()}
    """


def _given_text(context: str) -> str:
    kubectl = f"kubectl --context {context} --namespace {NAMESPACE}"
    return f"""
    PackageRepo {REPO} is served. From this machine, while the first of these runs:

      {kubectl} port-forward service/pywharf 8888:80
      pip install --index-url http://demo:demo-read@127.0.0.1:8888/repo/{REPO}/simple/ PROJECT
      twine upload --repository-url http://127.0.0.1:8888/repo/{REPO}/simple/ -u demo -p demo-write dist/*

    {_inside_text()}
    The cluster:

      {kubectl} get pywharf

    {_stop_text()}
    """


def _inside_text() -> str:
    host = f"pywharf.{NAMESPACE}.svc"
    return f"""In a pod of the cluster:

      pip install --trusted-host {host} --index-url http://demo:demo-read@{host}/repo/{REPO}/simple/ PROJECT
      uv pip install --index-url http://demo:demo-read@{host}/repo/{REPO}/simple/ PROJECT
"""


def _stop_text() -> str:
    return "make stop-cluster removes all of it, packages included."


def _print(text: str) -> None:
    sys.stdout.write(textwrap.dedent(text).strip() + "\n")
    sys.stdout.flush()


def _read(state: Path) -> dict[str, Any] | None:
    with contextlib.suppress(FileNotFoundError):
        found: dict[str, Any] = json.loads((state / "state.json").read_text())
        return found
    return None


def _write(state: Path, content: dict[str, Any]) -> None:
    unfinished = state / "state.unfinished"
    unfinished.write_text(json.dumps(content))
    unfinished.rename(state / "state.json")


def _remove(state: Path) -> None:
    """Remove the state folder, retrying because a mount ends shortly after the last process of its namespace."""
    end = time.monotonic() + STOP_S
    while True:
        try:
            shutil.rmtree(state)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


def _started(pid: int) -> int | None:
    """Return the process's start in ticks since boot, None if it has ended. It detects a reused process number."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in {"Z", "X"} else int(fields[_STARTED])
    return None


def _is_alive(found: dict[str, Any]) -> bool:
    return "pid" in found and found["started"] is not None and _started(found["pid"]) == found["started"]


def _until_ended(found: dict[str, Any], longest_s: float) -> None:
    end = time.monotonic() + longest_s
    while _is_alive(found) and time.monotonic() < end:
        time.sleep(0.05)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="run_cluster")
    parser.add_argument("command", choices=["start", "stop"])
    parser.add_argument("--state", default=".pywharf-cluster", help="a folder, relative to the checkout")
    parser.add_argument("--port", type=int, default=8888)
    parser.add_argument("--context", default="", help="of a cluster that is there; `current`: kubectl's")
    parser.add_argument("--image", default="", help="with --context: what its nodes run")
    given = parser.parse_args(arguments)
    state = CHECKOUT / given.state
    try:
        if given.command == "start":
            start(state, given.port, given.context, given.image)
        else:
            stop(state)
    except RunError as error:
        if str(error):
            say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
