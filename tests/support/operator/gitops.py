"""The files of examples/gitops as their tools read them."""

import subprocess
from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from support.cluster.cluster import kubectl_program
from support.operator import lua
from support.parts import CHECKOUT

GITOPS = CHECKOUT / "examples" / "gitops"
OVERLAYS = ("staging", "production")
KUBECTL_S = 900.0
"""Seconds to wait at most for a kubectl that has to be built first."""


class Health(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The result that Argo CD takes from a health script."""

    status: str
    message: str = ""


def script(name: str) -> str:
    return (GITOPS / "argocd" / f"{name}.lua").read_text(encoding="utf-8")


def health(obj: Mapping[str, Any]) -> Health:
    """Return the health that Argo CD reports for a PackageRepo or PackageServer."""
    return msgspec.convert(lua.run(script(f"health-{obj['kind'].lower()}"), obj), Health)


def kustomized(overlay: str) -> list[dict[str, Any]]:
    """Return the objects of an overlay as Argo CD and Flux render them."""
    folder = GITOPS / "overlays" / overlay
    done = subprocess.run([kubectl_program(None), "kustomize", folder], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(done.stdout))


def decrypted(objects: list[dict[str, Any]], values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Replace Secrets and ExternalSecrets with the Secrets that SOPS or External Secrets would create from `values`."""
    return [_decrypted(item, values) for item in objects]


def _decrypted(item: dict[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    if item["kind"] == "Secret":
        metadata = item["metadata"]
    elif item["kind"] == "ExternalSecret":
        target = item["spec"]["target"]
        metadata = {
            "name": target["name"],
            "namespace": item["metadata"]["namespace"],
            **target["template"]["metadata"],
        }
    else:
        return item
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(values)}
