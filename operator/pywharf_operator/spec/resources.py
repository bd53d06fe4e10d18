"""What a container asks for and may use."""

from typing import Annotated

from msgspec import Meta

from pywharf_operator.spec.forms import Quantity
from pywharf_operator.spec.model import Model


class Resources(Model, frozen=True, kw_only=True):
    """What a container asks for and may use."""

    requests: Annotated[
        dict[str, Quantity] | None, Meta(description="What is kept for it, by resource: cpu, memory.")
    ] = None
    limits: Annotated[dict[str, Quantity] | None, Meta(description="What it may use at most, by resource.")] = None
