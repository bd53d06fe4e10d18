"""Where uploads lie while they are received and checked."""

from typing import Annotated

from msgspec import Meta

from pywharf_operator.spec.forms import Quantity
from pywharf_operator.spec.model import Model

DEFAULT_STAGING_SIZE = "16Gi"
"""Three files of the largest size that a storage takes in one piece."""


class Staging(Model, frozen=True, kw_only=True):
    """The folder of a server without `storage` in which uploads lie until they are in their storage."""

    size_limit: Annotated[
        Quantity,
        Meta(
            description=(
                "Most bytes of all uploads that a replica receives concurrently, as a size on its node's disk such as "
                "16Gi; at most half of it for one repo. Make it 2.5 times the size of the largest file, or more. "
                "Uploads beyond it are refused, to be tried again. With `storage` that volume is used, and this has no "
                "effect."
            )
        ),
    ] = DEFAULT_STAGING_SIZE
