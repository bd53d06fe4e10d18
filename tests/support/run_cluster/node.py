"""The process that holds the node of `make run-cluster`: `python -m support.run_cluster.node STATE PORT`.

It outlives the command that started it. SIGTERM ends it together with all of the node.
"""

import json
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

import pytest

from support.cluster.build import HELM, BuildError, build
from support.node.image_build import IMAGE
from support.node.node import Node, parts, relayed, running_node
from support.run_cluster.install import NAMESPACE, RELEASE, RunError, Tools, install
from support.waiting import wait_for


def ready_file(state: Path) -> Path:
    """Return the path of the file that the holder writes once everything is served."""
    return state / "ready.json"


def node_folder(state: Path) -> Path:
    return state / "node"


def say(text: str) -> None:
    sys.stderr.write(f"run-cluster: {text}\n")
    sys.stderr.flush()


def hold(state: Path, port: int) -> None:
    say("looking for the node's programs and images; what is missing is built, once, in some minutes")
    made, helm = parts(), build(HELM) / "helm"
    say("starting the node")
    with running_node(node_folder(state), made) as node:
        say(f"the node is ready after {node.seconds['ready']:.0f} s")
        kubectl = shutil.which("kubectl") or str(node.cluster.kubectl_program)
        kubeconfig = node.cluster.kubeconfig
        tools = Tools(kubectl, str(helm), _environment(state, kubeconfig))
        install(tools, IMAGE, say)
        _serve(node, tools, port)
        unfinished = state / "ready.unfinished"
        unfinished.write_text(json.dumps({"kubeconfig": str(kubeconfig), "kubectl": kubectl, "port": port}))
        unfinished.rename(ready_file(state))
        while True:
            time.sleep(60)


def _environment(state: Path, kubeconfig: Path) -> dict[str, str]:
    """Return variables that keep helm's and kubectl's own files in the state folder."""
    caches = {f"HELM_{kind}_HOME": str(state / "helm") for kind in ("CACHE", "CONFIG", "DATA")}
    return caches | {
        "KUBECONFIG": str(kubeconfig),
        "KUBECACHEDIR": str(state / "kubectl"),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def _serve(node: Node, tools: Tools, port: int) -> None:
    """Relay the Service to `port` of this machine. The Service's address stays the same while its pods change."""
    service = json.loads(tools.run_kubectl("get", "service", RELEASE, f"--namespace={NAMESPACE}", "--output=json"))
    address, inside = service["spec"]["clusterIP"], service["spec"]["ports"][0]["port"]
    relayed(node.spaces, node.sockets, "server", f"{address}:{inside}", port)
    wait_for((node.sockets / "server.sock").exists, "the relay")
    node.spaces.check()


def _end(*_: object) -> NoReturn:
    """End this process and its process group, which includes running builds."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    sys.exit(1)


def main(state: Path, port: int) -> int:
    signal.signal(signal.SIGTERM, _end)
    try:
        hold(state, port)
    except pytest.skip.Exception as error:
        say(str(error))
    except (RunError, BuildError, AssertionError) as error:
        say(f"failed: {error}")
    except Exception:  # noqa: BLE001 - any failure is reported
        say(traceback.format_exc())
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
