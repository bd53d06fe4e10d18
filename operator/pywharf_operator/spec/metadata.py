"""What every object carries: its kind and its metadata, as far as pywharf reads them."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from pywharf_operator.spec.forms import NAMESPACE, OBJECT_NAME
from pywharf_operator.spec.model import Model

GROUP = "pywharf.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class ObjectKey(msgspec.Struct, frozen=True, order=True):
    """Where an object stands."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """Render as `namespace/name`."""
        return f"{self.namespace}/{self.name}"


class ObjectMeta(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An object's metadata. Fields that pywharf does not read are ignored."""

    name: str
    namespace: str | None = None
    labels: dict[str, Any] | None = None
    annotations: dict[str, Any] | None = None
    creation_timestamp: datetime | None = None
    generation: int | None = None
    uid: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for names that Kubernetes refuses, TypeError for labels that are no texts."""
        OBJECT_NAME.verify("name", self.name)
        if self.namespace is not None:
            NAMESPACE.verify("namespace", self.namespace)
        for field, pairs in (("labels", self.labels), ("annotations", self.annotations)):
            for key, value in (pairs or {}).items():
                if not isinstance(value, str):
                    raise TypeError(
                        f'{field}: {key} must be a text; put its value in quotes, for example {key}: "true"'
                    )

    def key(self) -> ObjectKey:
        """Namespace and name. Readers of manifests fill in a missing namespace first."""
        return ObjectKey(self.namespace or "default", self.name)


class Resource(Model, frozen=True, kw_only=True):
    """An object as `kubectl` sends it."""

    api_version: Annotated[str, Meta(description="The version of this object's schema.")]
    kind: Annotated[str, Meta(description="What this object is.")]
    metadata: Annotated[ObjectMeta, Meta(description="Name, namespace, labels and annotations, as of any object.")]

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return self.metadata.key()
