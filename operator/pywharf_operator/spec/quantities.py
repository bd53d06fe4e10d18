"""Kubernetes quantities, such as 10Gi and 500m."""

import re
from decimal import Decimal
from typing import Final

_QUANTITY: Final = re.compile(r"([+-]?[0-9.]{1,40}(?:[eE][+-]?[0-9]{1,2})?)([KMGTPE]i|[numkMGTPE])?\Z")
_UNITS: Final = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


def quantity(value: object) -> Decimal | None:
    """Return the amount that a Kubernetes quantity stands for, or None if it is not one."""
    found = _QUANTITY.match(str(value)) if isinstance(value, str | int) else None
    try:
        return None if found is None else Decimal(found[1]) * _UNITS[found[2] or ""]
    except ArithmeticError:
        return None
