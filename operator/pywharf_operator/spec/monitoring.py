"""How Prometheus finds a server's metrics."""

from typing import Annotated

import msgspec
from msgspec import Meta

from pywharf_operator.spec.forms import Duration
from pywharf_operator.spec.model import Model


class ServiceMonitor(Model, frozen=True, kw_only=True):
    """A ServiceMonitor (monitoring.coreos.com/v1)."""

    labels: Annotated[
        dict[str, str], Meta(description="Labels of the object, by which a Prometheus chooses what it scrapes.")
    ] = msgspec.field(default_factory=dict)
    interval: Annotated[
        Duration | None, Meta(description="Time between two scrapes. Absent: as Prometheus is set.")
    ] = None
