"""A release of the chart on a real node, as docs/chart.md installs it, and what its notes say."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from support.chart import helm_done, helm_flags, image_values
from support.cluster import Cluster
from support.kube_client import Json
from support.pods import IMAGE

NAME = "pywharf"
IMAGE_VALUES: Json = {"image": image_values(IMAGE) | {"pullPolicy": "IfNotPresent"}}
FLAGS = helm_flags(IMAGE_VALUES["image"])
"""The same on a command line."""


@dataclass(frozen=True)
class Release:
    """The release `pywharf` in a namespace."""

    cluster: Cluster
    namespace: str
    folder: Path
    """For helm's own files."""
    warnings: list[str] = field(default_factory=list)
    """What helm said beside its output: warnings of the API server."""

    def helm(self, verb: str, *arguments: str, values: Json | None = None) -> str:
        return self._helm(verb, NAME, *arguments, values=values)

    def notes(self) -> str:
        return self._helm("get", "notes", NAME).partition("NOTES:\n")[2]

    def kubectl(self, verb: str, *arguments: str, input: str | None = None) -> str:  # noqa: A002 - as Cluster.kubectl
        return self.cluster.kubectl(verb, f"--namespace={self.namespace}", *arguments, input=input)

    def uid(self, kind: str, name: str) -> str:
        """Raises KubectlError where it is not there."""
        return self.kubectl("get", kind, name, "--output=jsonpath={.metadata.uid}")

    def as_typed(self, words: list[str]) -> str:
        """What a line of helm or kubectl printed that names the namespace itself."""
        program, *arguments = words
        return self._done(*arguments) if program == "helm" else self.cluster.kubectl(*arguments)

    def remove(self) -> None:
        """What of it is cluster-wide, then the namespace."""
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
    """The paragraphs of commands; what is told between them is not indented."""
    return [paragraph for paragraph in notes.strip("\n").split("\n\n") if paragraph.startswith("  ")]


def rights(cluster: Cluster, namespace: str, account: str) -> set[str]:
    """Lines of `kubectl auth can-i --list` for a ServiceAccount, in its namespace."""
    user = f"--as=system:serviceaccount:{namespace}:{account}"
    listed = cluster.kubectl("auth", "can-i", "--list", user, f"--namespace={namespace}")
    return {re.sub(r"\s{2,}", "  ", line).strip() for line in listed.splitlines()}
