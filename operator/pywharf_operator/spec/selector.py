"""Label selectors, with the meaning they have in Kubernetes."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pywharf_operator.spec.model import Model, Rule


class Requirement(Model, frozen=True, kw_only=True):
    """A condition on one label."""

    rules = (
        Rule(
            cel="(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
            message="matchExpressions: In and NotIn need values; Exists and DoesNotExist have none",
            holds=lambda requirement: (requirement.operator in {"In", "NotIn"}) == bool(requirement.values),
        ),
    )

    key: Annotated[str, Meta(max_length=317, description="The label.")]
    operator: Annotated[
        Literal["In", "NotIn", "Exists", "DoesNotExist"],
        Meta(description="What is asked of the label's value or presence."),
    ]
    values: Annotated[
        tuple[Annotated[str, Meta(max_length=63)], ...],
        Meta(max_length=64, description="The values that In and NotIn speak of."),
    ] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet it. As in Kubernetes, NotIn is met where the label is absent."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels


class LabelSelector(Model, frozen=True, kw_only=True):
    """Conditions that must all be met."""

    match_labels: Annotated[dict[str, str], Meta(description="Labels, each with the value that it must have.")] = (
        msgspec.field(default_factory=dict)
    )
    match_expressions: Annotated[
        tuple[Requirement, ...], Meta(max_length=16, description="Further conditions on labels.")
    ] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected. Empty: every object."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            requirement.matches(labels) for requirement in self.match_expressions
        )
