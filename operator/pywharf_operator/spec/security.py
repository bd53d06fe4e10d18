"""How a server's pods and its Jobs' pods fit what a cluster admits."""

from typing import Annotated, Literal

from msgspec import Meta

from pywharf_operator.spec.model import Model


class Security(Model, frozen=True, kw_only=True):
    """Who chooses the ids of the pods' processes."""

    user_ids: Annotated[
        Literal["Fixed", "FromCluster"],
        Meta(
            description=(
                "Fixed: user, group and the volumes' group are 65532. FromCluster: pods name no id, and the cluster "
                "gives them, as OpenShift does. Of the server's pods and of the Jobs' pods."
            )
        ),
    ] = "Fixed"

    @property
    def from_cluster(self) -> bool:
        """Whether pods name no ids."""
        return self.user_ids == "FromCluster"
