"""How much of a server one namespace may take."""

from typing import Annotated

from msgspec import Meta

from pywharf_operator.spec.model import Model


class Limits(Model, frozen=True, kw_only=True):
    """How much of the server one namespace may take; past it the newest repos of that namespace are refused."""

    repos_per_namespace: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="PackageRepos of one namespace that the server takes, the oldest first.",
        ),
    ] = 1000
    repo_table_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=262_144,
            description=(
                "Bytes of one repo's table in the server's configuration, without what the server's own upstream adds. "
                "The lists of its upstream and of its access entries take most."
            ),
        ),
    ] = 16_384
    min_schedule_interval_seconds: Annotated[
        int,
        Meta(
            ge=60,
            le=3600,
            description="Seconds that must lie between any two updates that an index.schedule asks for.",
        ),
    ] = 300
