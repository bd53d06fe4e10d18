"""PURE. The requests to the Kubernetes API, and what the responses to lists are made of."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pywharf_operator.cluster.responses import decoded
from pywharf_operator.cluster.trimming import trimmed, trimmed_metadata
from pywharf_operator.spec.kinds import Json, Kind

MAX_ANSWER_BYTES: Final = 8 * 1024**2
"""Maximum bytes of a response with one object. etcd accepts 1.5 MiB per request, unless configured otherwise."""
JSON: Final = "application/json"
METADATA: Final = f"{JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1,{JSON}"
_METADATA_LIST: Final = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,{JSON}"


class Request(msgspec.Struct, frozen=True):
    """One request."""

    verb: str
    """The RBAC verb, for metrics."""
    method: str
    path: str
    query: Mapping[str, str] = {}
    body: Mapping[str, Any] | None = None
    content_type: str = JSON
    accept: str = JSON
    most: int = MAX_ANSWER_BYTES


class Listing(msgspec.Struct, frozen=True):
    """The parameters of a list request."""

    kind: Kind
    namespace: str | None
    labels: str | None
    metadata: bool
    fields: str | None = None

    def request(self, limit: int, token: str, most: int) -> Request:
        query = {"limit": str(limit)} | ({"continue": token} if token else {})
        query |= selectors(self.labels, self.fields)
        accept = _METADATA_LIST if self.metadata else JSON
        return Request("list", "GET", self.kind.path(self.namespace), query, accept=accept, most=most)

    def decoded(self, raw: msgspec.Raw) -> Json:
        # The items of a list have no apiVersion and no kind.
        return {"apiVersion": self.kind.api_version, "kind": self.kind.name} | decoded(bytes(raw))

    def trimmed(self, item: Json) -> Json:
        return (trimmed_metadata if self.metadata else trimmed)(self.kind, item)


def selectors(labels: str | None, fields: str | None = None) -> dict[str, str]:
    selectors = {"labelSelector": labels, "fieldSelector": fields}
    return {name: selector for name, selector in selectors.items() if selector}
