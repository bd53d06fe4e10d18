"""What the Jobs that update indexes have apart from the server."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from pywharf_operator.spec.model import Model
from pywharf_operator.spec.own_metadata import OwnAnnotations, OwnLabels, key_rules
from pywharf_operator.spec.resources import Resources


class Jobs(Model, frozen=True, kw_only=True):
    """Settings of the index Jobs of every repo of the server."""

    rules = key_rules("labels", "annotations")

    resources: Annotated[
        Resources | None,
        Meta(description="What the container `index` of a Job asks for and may use. Absent: the operator's values."),
    ] = None
    labels: Annotated[
        OwnLabels, Meta(description="Labels of the Jobs and their pods, beside the server's own `labels`.")
    ] = msgspec.field(default_factory=dict)
    annotations: Annotated[
        OwnAnnotations,
        Meta(
            description=(
                "Annotations of the Jobs and their pods, beside the server's own `annotations`, such as "
                'sidecar.istio.io/inject: "false". The annotations and labels of the server\'s `podTemplate` are not '
                "theirs."
            )
        ),
    ] = msgspec.field(default_factory=dict)
    pod_template: Annotated[
        dict[str, Any],
        Meta(
            description=(
                "Merged into the Jobs' pod template (metadata and spec, by strategic merge; the container is `index`), "
                "after what Jobs take of the server's `podTemplate`."
            )
        ),
    ] = msgspec.field(default_factory=dict)
