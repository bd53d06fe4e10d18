"""The Helm chart: helm itself, what it renders, and the schema of its values."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pywharf_operator.codegen.crds import crds
from support import cluster_build
from support.cluster import manifests
from support.kube_client import Json
from support.parts import CHECKOUT, missing

CHART = CHECKOUT / "deploy" / "helm" / "pywharf"
SCHEMA = CHART / "values.schema.json"
PACKAGED = CHECKOUT / "tests" / "chart" / "pywharf-0.1.0.tgz"
"""What an upgrade starts from; never made anew."""
KUBERNETES = cluster_build.KUBERNETES.removeprefix("v")
# Not of JSON Schema, or of no use where nothing is filled in.
_LEFT_OUT = ("x-kubernetes-", "default", "format")


class HelmError(AssertionError):
    """helm ended with an error, which `stderr` holds."""

    def __init__(self, arguments: tuple[str, ...], stderr: str) -> None:
        super().__init__(f"helm {' '.join(arguments)}: {stderr}")
        self.stderr = stderr


def program(programs: cluster_build.Programs, name: str) -> Path:
    """One that is built of a Go module; else the calling test is left out."""
    try:
        return cluster_build.build(programs) / name
    except cluster_build.BuildError as error:
        missing(name, str(error))


def helm(*arguments: str, folder: Path, kubeconfig: Path | None = None, values: Json | None = None) -> str:
    """What it printed; its own files are in `folder`. Without a kubeconfig it finds no cluster. Raises HelmError."""
    return helm_done(*arguments, folder=folder, kubeconfig=kubeconfig, values=values).stdout


def helm_done(
    *arguments: str, folder: Path, kubeconfig: Path | None = None, values: Json | None = None
) -> "subprocess.CompletedProcess[str]":
    """The same, with its warnings as `stderr`."""
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
    """What `helm template` prints of the release `pywharf`."""
    options = (f"--namespace={namespace}", f"--kube-version={KUBERNETES}", *arguments)
    return helm("template", "pywharf", str(chart), *options, folder=folder, values=values)


def objects(folder: Path, values: Json, *arguments: str, chart: Path = CHART) -> dict[tuple[str, str, str], Json]:
    """What it renders, by kind, namespace and name; of a name that is there twice both are needed, so that fails."""
    found = manifests(rendered(folder, values, *arguments, chart=chart))
    keyed = {_key(item): item for item in found}
    assert len(keyed) == len(found), "two objects have one name"
    return keyed


def _key(item: Json) -> tuple[str, str, str]:
    metadata = item["metadata"]
    return str(item["kind"]), str(metadata.get("namespace", "")), str(metadata["name"])


def schema() -> Json:
    """values.schema.json, with the specs of both kinds as their CRDs have them."""
    text: Json = json.loads(SCHEMA.read_text())
    made = {_plural(crd): crd for crd in crds().values()}
    specs = {name: _strict(_spec(made[plural])) for name, plural in _SPECS.items()}
    return text | {"$defs": text["$defs"] | specs}


_SPECS = {"packageServerSpec": "packageservers", "packageRepoSpec": "packagerepos"}


def _plural(crd: Mapping[str, Any]) -> str:
    return str(crd["spec"]["names"]["plural"])


def _spec(crd: Mapping[str, Any]) -> Json:
    (version,) = crd["spec"]["versions"]
    found: Json = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def _strict(node: Json) -> Json:
    """No field that is not named, but where any may be."""
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
    """The file holds that text; PYWHARF_UPDATE_GOLDEN=1 writes it."""
    if os.environ.get("PYWHARF_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


def values() -> Json:
    """The chart's defaults."""
    found: Json = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def image_values(image: str) -> dict[str, str]:
    """The chart's `image`, of `repository[:tag][@digest]`."""
    name, _, digest = image.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # that colon was a port's
        repository, tag = name, ""
    found = {"repository": repository, "tag": tag, "digest": digest}
    return {key: value for key, value in found.items() if value}


def helm_flags(values: Mapping[str, str]) -> tuple[str, ...]:
    """Values of `image`, on a command line."""
    return tuple(f"--set-string=image.{key}={value}" for key, value in values.items())
