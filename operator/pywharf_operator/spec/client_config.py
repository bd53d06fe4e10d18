"""What the operator gives to clients that run in pods."""

from typing import Annotated, Final

from msgspec import Meta

from pywharf_operator.spec.forms import ObjectName
from pywharf_operator.spec.model import Model, Rule
from pywharf_operator.spec.names import CONFIG_MAP_SUFFIXES

_ENDS: Final = tuple(f"-{suffix}" for suffix in CONFIG_MAP_SUFFIXES)


class ClientConfig(Model, frozen=True, kw_only=True):
    """A ConfigMap for pods that use the repo with their ServiceAccount's token."""

    rules = (
        Rule(
            # Of any server: the namespace may get another one, which could then never have its ConfigMap.
            cel=" && ".join(f"!self.configMap.endsWith('{end}')" for end in _ENDS),
            message=(
                f"configMap: names that end in {' or '.join(_ENDS)} are for the ConfigMaps of PackageServers; "
                "choose another one, such as wheels-clients"
            ),
            holds=lambda given: not given.config_map.endswith(_ENDS),
        ),
    )

    config_map: Annotated[
        ObjectName,
        Meta(
            description=(
                "Name of the ConfigMap, in the repo's own namespace, that the operator keeps: pip.conf, uv.toml, the "
                "program keyring and, if the server's TLS Secret has ca.crt, that. It never overwrites one that it did "
                "not make, and deletes its own with this field. A name that ends in "
                f"{' or '.join(_ENDS)} is refused: PackageServers have such ConfigMaps."
            )
        ),
    ]
