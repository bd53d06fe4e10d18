"""The Helm chart: helm itself, the rendered objects, and the schema of the values."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pywharf_operator.codegen.crds import crds
from support.cluster import build as cluster_build
from support.cluster.cluster import manifests
from support.cluster.kube_client import Json
from support.parts import CHECKOUT, missing

CHART = CHECKOUT / "deploy" / "helm" / "pywharf"
SCHEMA = CHART / "values.schema.json"
PACKAGED = CHECKOUT / "tests" / "chart" / "pywharf-0.1.0.tgz"
"""The packaged chart that an upgrade starts from; never rebuilt."""
KUBERNETES = cluster_build.KUBERNETES.removeprefix("v")
# Keys that are not part of JSON Schema, or that are useless because no values are filled in.
_LEFT_OUT = ("x-kubernetes-", "default", "format")


class HelmError(AssertionError):
    """A failure of helm; `stderr` holds its error."""

    def __init__(self, arguments: tuple[str, ...], stderr: str) -> None:
        super().__init__(f"helm {' '.join(arguments)}: {stderr}")
        self.stderr = stderr


def program(programs: cluster_build.Programs, name: str) -> Path:
    """Return a program built from a Go module. Skips the calling test if it cannot be built."""
    try:
        return cluster_build.build(programs) / name
    except cluster_build.BuildError as error:
        missing(name, str(error))


def helm(*arguments: str, folder: Path, kubeconfig: Path | None = None, values: Json | None = None) -> str:
    """Run helm and return its output. Raises HelmError.

    helm's own files are in `folder`. Without a kubeconfig it finds no cluster.
    """
    return helm_done(*arguments, folder=folder, kubeconfig=kubeconfig, values=values).stdout


def helm_done(
    *arguments: str, folder: Path, kubeconfig: Path | None = None, values: Json | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run helm like `helm`, but return the process, whose `stderr` holds helm's warnings."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "KUBECONFIG": str(kubeconfig or folder / "none.kubeconfig"),
        "NO_PROXY": "127.0.0.1,localhost",
    }
    given = () if values is None else ("--values", "-")
    done = subprocess.run(
        [str(program(cluster_build.HELM, "helm")), *arguments, *given],
        input=None if values is None else json.dumps(values),
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if done.returncode:
        raise HelmError(arguments, done.stderr)
    return done


def rendered(folder: Path, values: Json, *arguments: str, chart: Path = CHART, namespace: str = "packages") -> str:
    """Return the output of `helm template` for the release `pywharf`."""
    options = (f"--namespace={namespace}", f"--kube-version={KUBERNETES}", *arguments)
    return helm("template", "pywharf", str(chart), *options, folder=folder, values=values)


def objects(folder: Path, values: Json, *arguments: str, chart: Path = CHART) -> dict[tuple[str, str, str], Json]:
    """Render the chart; returns its objects by kind, namespace and name. A duplicate key is an AssertionError."""
    found = manifests(rendered(folder, values, *arguments, chart=chart))
    keyed = {_key(item): item for item in found}
    assert len(keyed) == len(found), "two objects have one name"
    return keyed


def _key(item: Json) -> tuple[str, str, str]:
    metadata = item["metadata"]
    return str(item["kind"]), str(metadata.get("namespace", "")), str(metadata["name"])


def schema() -> Json:
    """Return values.schema.json with the specs of all kinds taken from their CRDs."""
    text: Json = json.loads(SCHEMA.read_text())
    made = {_plural(crd): crd for crd in crds().values()}
    specs = {name: _strict(_spec(made[plural])) for name, plural in _SPECS.items()}
    return text | {"$defs": text["$defs"] | specs}


_SPECS = {
    "packageServerSpec": "packageservers",
    "packageRepoSpec": "packagerepos",
    "packagePolicySpec": "packagepolicies",
}


def _plural(crd: Mapping[str, Any]) -> str:
    return str(crd["spec"]["names"]["plural"])


def _spec(crd: Mapping[str, Any]) -> Json:
    (version,) = crd["spec"]["versions"]
    found: Json = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def _strict(node: Json) -> Json:
    """Forbid unknown fields, except where the CRD preserves them."""
    made = {key: value for key, value in node.items() if not key.startswith(_LEFT_OUT)}
    if "properties" in made:
        made["properties"] = {name: _strict(value) for name, value in made["properties"].items()}
        made["additionalProperties"] = bool(node.get("x-kubernetes-preserve-unknown-fields"))
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = _strict(made[key])
    return made


def text_of(made: Json) -> str:
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def held(path: Path, text: str) -> None:
    """Assert that the file holds that text; PYWHARF_UPDATE_GOLDEN=1 writes it first."""
    if os.environ.get("PYWHARF_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


def values() -> Json:
    """Return the chart's default values."""
    found: Json = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def image_values(image: str) -> dict[str, str]:
    """Split `repository[:tag][@digest]` into the chart's `image` values."""
    name, _, digest = image.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # the colon belongs to a port
        repository, tag = name, ""
    found = {"repository": repository, "tag": tag, "digest": digest}
    return {key: value for key, value in found.items() if value}


def helm_flags(values: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of `image` as command-line flags."""
    return tuple(f"--set-string=image.{key}={value}" for key, value in values.items())
