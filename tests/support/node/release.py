"""A release of the chart on a real node, installed as docs/chart.md says, and its notes."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from support.cluster.cluster import Cluster
from support.cluster.kube_client import Json
from support.node.pods import IMAGE
from support.operator.chart import helm_done, helm_flags, image_values

NAME = "pywharf"
IMAGE_VALUES: Json = {"image": image_values(IMAGE) | {"pullPolicy": "IfNotPresent"}}
FLAGS = helm_flags(IMAGE_VALUES["image"])
"""`IMAGE_VALUES` as command-line flags."""


@dataclass(frozen=True)
class Release:
    """The release `pywharf` in a namespace."""

    cluster: Cluster
    namespace: str
    folder: Path
    """Folder for helm's own files."""
    warnings: list[str] = field(default_factory=list)
    """Lines that helm wrote to stderr: warnings of the API server."""

    def helm(self, verb: str, *arguments: str, values: Json | None = None) -> str:
        return self._helm(verb, NAME, *arguments, values=values)

    def notes(self) -> str:
        return self._helm("get", "notes", NAME).partition("NOTES:\n")[2]

    def kubectl(self, verb: str, *arguments: str, input: str | None = None) -> str:  # noqa: A002 - as Cluster.kubectl
        return self.cluster.kubectl(verb, f"--namespace={self.namespace}", *arguments, input=input)

    def uid(self, kind: str, name: str) -> str:
        """Return the uid of an object. Raises KubectlError if it does not exist."""
        return self.kubectl("get", kind, name, "--output=jsonpath={.metadata.uid}")

    def as_typed(self, words: list[str]) -> str:
        """Run a line of helm or kubectl that names the namespace itself; returns its output."""
        program, *arguments = words
        return self._done(*arguments) if program == "helm" else self.cluster.kubectl(*arguments)

    def remove(self) -> None:
        """Remove the release's cluster-wide objects, then the namespace."""
        self.helm("uninstall", "--ignore-not-found")
        self.cluster.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def _helm(self, *arguments: str, values: Json | None = None) -> str:
        return self._done(*arguments, f"--namespace={self.namespace}", values=values)

    def _done(self, *arguments: str, values: Json | None = None) -> str:
        kubeconfig = self.cluster.kubeconfig
        done = helm_done(*arguments, folder=self.folder, kubeconfig=kubeconfig, values=values)
        self.warnings.extend(done.stderr.splitlines())
        return done.stdout


def commands(notes: str) -> list[str]:
    """Return the paragraphs of commands, which are indented; the prose between them is not."""
    return [paragraph for paragraph in notes.strip("\n").split("\n\n") if paragraph.startswith("  ")]


def rights(cluster: Cluster, namespace: str, account: str) -> set[str]:
    """Return the lines of `kubectl auth can-i --list` for a ServiceAccount in its namespace."""
    user = f"--as=system:serviceaccount:{namespace}:{account}"
    listed = cluster.kubectl("auth", "can-i", "--list", user, f"--namespace={namespace}")
    return {re.sub(r"\s{2,}", "  ", line).strip() for line in listed.splitlines()}
