"""PURE. What to do about a pod that the cluster refuses, by the API server's message."""

import re
from typing import Final

from pywharf_operator.spec.names import Component

_MAX_SHOWN: Final = 500
_RESOURCES: Final = {"server": "spec.resources", "index": "spec.jobs.resources"}
_POD_TEMPLATE: Final = {"server": "spec.podTemplate", "index": "spec.jobs.podTemplate"}
_REMEDIES: Final = (
    (
        r"failed quota|must specify",
        "a ResourceQuota asks for each of these amounts; name them in {resources} of the PackageServer",
    ),
    (
        r"exceeded quota",
        "free some of the ResourceQuota or raise it, or ask for less in {resources} of the PackageServer",
    ),
    (
        r"(maximum|minimum) \S+ usage per|(limit|request) ratio",
        "a LimitRange bounds these amounts; set {resources} of the PackageServer within its bounds",
    ),
    (
        r"security context constraint|runAsUser|fsGroup",
        "where the cluster gives the user ids, set spec.security.userIDs of the PackageServer to FromCluster",
    ),
    (
        r"violates PodSecurity",
        "remove what it names from {template} and spec.podTemplate of the PackageServer",
    ),
    (
        r"label|annotation",
        "set what is missing in spec.labels or spec.annotations of the PackageServer",
    ),
)
"""Remedies, by a pattern of the API server's message."""


def remedy(message: str, component: Component) -> str:
    """Return what to do about a refused pod of the server or of an index Job; empty if no remedy is known."""
    text = next((text for pattern, text in _REMEDIES if re.search(pattern, message)), "")
    return text.format(resources=_RESOURCES[component], template=_POD_TEMPLATE[component])


def with_remedy(message: str, component: Component = "index") -> str:
    """Return the message as one or two sentences, the remedy last."""
    shown = "".join(c if c.isprintable() else " " for c in message[: _MAX_SHOWN * 2]).strip()[:_MAX_SHOWN].rstrip(".")
    advice = remedy(message, component)
    return f"{shown}; {advice}." if advice else f"{shown}."
