"""What the operator gives to clients that run in pods."""

from typing import Annotated

from msgspec import Meta

from pywharf_operator.spec.forms import ObjectName
from pywharf_operator.spec.model import Model


class ClientConfig(Model, frozen=True, kw_only=True):
    """A ConfigMap for pods that use the repo with their ServiceAccount's token."""

    config_map: Annotated[
        ObjectName,
        Meta(
            description=(
                "Name of the ConfigMap, in the repo's own namespace, that the operator keeps: pip.conf, uv.toml, the "
                "program keyring and, if the server's TLS Secret has ca.crt, that. It never overwrites one that it did "
                "not make, and deletes its own with this field."
            )
        ),
    ]
