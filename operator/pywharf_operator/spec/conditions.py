"""Conditions, as every status lists them."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pywharf_operator.spec.model import field_name

Count = Annotated[int, Meta(ge=0)]
NameText = Annotated[str, Meta(max_length=253)]
Text = Annotated[str, Meta(max_length=4096)]


class StatusModel(msgspec.Struct, frozen=True, kw_only=True, rename=field_name):
    """A part of a status. Unknown fields are ignored: another version of the operator may have written it."""


class Condition(StatusModel, frozen=True, kw_only=True):
    """One aspect of an object's state, in the form of metav1.Condition."""

    type: Annotated[str, Meta(max_length=316, description="Which aspect, for example Accepted or Ready.")]
    status: Annotated[Literal["True", "False", "Unknown"], Meta(description="Whether the aspect is as it should be.")]
    reason: Annotated[
        str, Meta(max_length=1024, description="Why, as one word for programs, for example SecretNotFound.")
    ]
    message: Annotated[
        str, Meta(max_length=32768, description="Why, as a sentence for people, and what to do about it.")
    ]
    last_transition_time: Annotated[datetime, Meta(description="When `status` last changed.")]
    observed_generation: Annotated[
        int, Meta(ge=0, description="The metadata.generation that this condition speaks of.")
    ] = 0
