"""Installing the chart and examples/quickstart on a cluster with kubectl and helm, for `make run-cluster`."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from support.cluster import build as cluster_build
from support.operator.chart import helm_flags, image_values
from support.parts import CHECKOUT

NAMESPACE = RELEASE = "pywharf"
REPO = "demo"
CHART = CHECKOUT / "deploy" / "helm" / "pywharf"
QUICKSTART = CHECKOUT / "examples" / "quickstart"
READY_S = 180
_CRDS = tuple(
    ".".join(reversed(path.stem.split("_"))) for path in sorted((CHECKOUT / "deploy" / "crds").glob("*_*.yaml"))
)
"""The names of all CustomResourceDefinitions, from the files `GROUP_PLURAL.yaml`."""


class RunError(Exception):
    """An error whose text says what to do."""


@dataclass(frozen=True)
class Tools:
    """kubectl and helm, for one cluster."""

    kubectl: str
    helm: str
    environment: Mapping[str, str]
    """Variables added to this process's environment."""
    context: str | None = None
    """A context of the kubeconfig; None if it has only one."""

    def run_kubectl(self, *arguments: str) -> str:
        """Run kubectl and return its output. Raises RunError."""
        chosen = [] if self.context is None else [f"--context={self.context}"]
        return self._run(self.kubectl, *chosen, *arguments)

    def run_helm(self, *arguments: str) -> str:
        """Run helm and return its output. Raises RunError."""
        chosen = [] if self.context is None else [f"--kube-context={self.context}"]
        return self._run(self.helm, *chosen, *arguments)

    def _run(self, program: str, *arguments: str) -> str:
        environment = os.environ | dict(self.environment)
        done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RunError(f"{Path(program).name} {' '.join(arguments)}:\n{done.stderr.strip()}")
        return done.stdout


def program(name: str, programs: cluster_build.Programs) -> str:
    """Return the program on the PATH, otherwise the one that the tests build. Raises RunError."""
    if found := shutil.which(name):
        return found
    try:
        return str(cluster_build.build(programs) / name)
    except cluster_build.BuildError as error:
        raise RunError(str(error)) from None


def install(tools: Tools, image: str, say: Callable[[str], None]) -> None:
    """Install the chart and the quickstart; returns once the repo is served. Raises RunError."""
    say(f"installing the chart: release {RELEASE}, namespace {NAMESPACE}")
    where = f"--namespace={NAMESPACE}"
    tools.run_helm("install", RELEASE, str(CHART), where, "--create-namespace", *helm_flags(image_values(image)))
    say(f"applying examples/quickstart, and waiting for PackageRepo {REPO}")
    tools.run_kubectl("apply", where, f"--filename={QUICKSTART}")
    ready = ("wait", where, "--for=condition=Ready", f"--timeout={READY_S}s", f"packagerepo/{REPO}")
    try:
        tools.run_kubectl(*ready)
        tools.run_kubectl("rollout", "status", where, f"--timeout={READY_S}s", "deployment/pywharf")
    except RunError as error:
        shown = tools.run_kubectl("get", "pods,pywharf,events", where)
        raise RunError(f"{error}\n{shown}") from None


def crds_there(tools: Tools) -> list[str]:
    found = json.loads(tools.run_kubectl("get", "customresourcedefinitions", "--output=json"))["items"]
    return [item["metadata"]["name"] for item in found if item["metadata"]["name"] in _CRDS]


def namespace_is_there(tools: Tools) -> bool:
    return bool(tools.run_kubectl("get", "namespace", NAMESPACE, "--ignore-not-found", "--output=name"))


def uninstall(tools: Tools, keep_crds: list[str], say: Callable[[str], None]) -> None:
    """Remove what `install` created: the release, the namespace, and CRDs not in `keep_crds` that nobody else uses."""
    say(f"removing release {RELEASE} and namespace {NAMESPACE} of {tools.context}")
    if namespace_is_there(tools):
        crds = crds_there(tools)
        if "packagerepos.pywharf.dev" in crds:  # while the operator is still there
            tools.run_kubectl("delete", f"--namespace={NAMESPACE}", "--ignore-not-found", f"--filename={QUICKSTART}")
        tools.run_helm("uninstall", RELEASE, f"--namespace={NAMESPACE}", "--ignore-not-found", "--wait")
        tools.run_kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
    made = [name for name in _CRDS if name not in keep_crds and name in crds_there(tools)]
    used = [name for name in made if tools.run_kubectl("get", name, "--all-namespaces", "--output=name")]
    if used:
        say(f"keeping {', '.join(made)}: other namespaces have such objects")
    elif made:
        tools.run_kubectl("delete", "customresourcedefinitions", "--ignore-not-found", *made)
