"""The ServiceAccount that a cloud's identity is bound to."""

from typing import Annotated

import msgspec
from msgspec import Meta

from pywharf_operator.spec.forms import ObjectName
from pywharf_operator.spec.model import Model, Rule
from pywharf_operator.spec.own_metadata import OwnAnnotations, key_rules


class ServiceAccount(Model, frozen=True, kw_only=True):
    """The ServiceAccount of the server's pods, and of the Jobs of repos that use the server's cloud identity."""

    rules = (
        Rule(
            cel="!has(self.name) || !has(self.annotations) || self.annotations.size() == 0",
            message="serviceAccount: annotations are for the one that is made; leave them out, or the name",
            holds=lambda account: account.name is None or not account.annotations,
        ),
        *key_rules("annotations"),
    )

    name: Annotated[
        ObjectName | None,
        Meta(
            description=(
                "A ServiceAccount of the server's namespace to use instead of one that is made. Absent: one is made, "
                "with the server's name."
            )
        ),
    ] = None
    annotations: Annotated[
        OwnAnnotations,
        Meta(
            description=(
                "Annotations of the ServiceAccount that is made, such as eks.amazonaws.com/role-arn. Jobs of repos "
                "with a backendSecretRef run as another one, which has none of them."
            )
        ),
    ] = msgspec.field(default_factory=dict)
