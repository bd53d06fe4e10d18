"""A volume that a server's pods mount."""

from typing import Annotated, Literal

from msgspec import Meta

from pywharf_operator.spec.forms import ObjectName, Quantity, StorageClassName
from pywharf_operator.spec.model import Model, Rule, exactly_one


class Volume(Model, frozen=True, kw_only=True):
    """A PersistentVolumeClaim that is made, or one that exists."""

    size: Annotated[Quantity | None, Meta(description="Size of the volume that is claimed, such as 10Gi.")] = None
    storage_class_name: Annotated[
        StorageClassName | None,
        Meta(
            description=(
                "Storage class of that volume. Absent: the cluster's default. Empty: no class; the claim is bound to "
                "a volume that has none."
            )
        ),
    ] = None
    access_modes: Annotated[
        tuple[Literal["ReadWriteOnce", "ReadWriteMany"], ...],
        Meta(
            min_length=1,
            max_length=2,
            description=(
                "How the volume may be mounted. Without ReadWriteMany the server has one replica, and everything that "
                "mounts the volume runs on its node."
            ),
        ),
    ] = ("ReadWriteOnce",)
    existing_claim: Annotated[
        ObjectName | None,
        Meta(description="A PersistentVolumeClaim of the server's namespace to use, instead of a new one."),
    ] = None

    @property
    def shared(self) -> bool:
        """Whether several nodes may mount it concurrently."""
        return "ReadWriteMany" in self.access_modes


def volume_rules(field: str) -> tuple[Rule, ...]:
    """Return the rules of the volume in this field."""
    return (
        Rule(
            cel="has(self.size) != has(self.existingClaim)",
            message=f"{field} must hold exactly one of size and existingClaim",
            holds=lambda volume: exactly_one(volume.size, volume.existing_claim),
        ),
        Rule(
            cel="!has(self.storageClassName) || has(self.size)",
            message=f"{field}: storageClassName has no effect on existingClaim; leave it out",
            holds=lambda volume: volume.storage_class_name is None or volume.size is not None,
        ),
    )
