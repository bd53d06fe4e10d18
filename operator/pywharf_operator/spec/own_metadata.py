"""Labels and annotations that users give to what is made: their bounds, and the keys that they may not use."""

import re
from typing import Annotated, Final

from msgspec import Meta

from pywharf_operator.spec.forms import LABEL_VALUE
from pywharf_operator.spec.model import Rule

MAX_ENTRIES: Final = 64
_MAX_ANNOTATION: Final = 4096
"""Characters. An object's annotations have 256 KiB together, which `MAX_ENTRIES` of these fill in ASCII."""
RESERVED_PREFIXES: Final = ("pywharf.dev/", "batch.kubernetes.io/", "deployment.kubernetes.io/")
RESERVED_KEYS: Final = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/managed-by",
    "controller-uid",
    "cronjob.kubernetes.io/instantiate",
    "job-name",
    "kubectl.kubernetes.io/last-applied-configuration",
    "pod-template-hash",
)
"""Keys that the operator, Kubernetes' controllers or kubectl write and find objects by."""
_MAX_DOMAIN: Final = 253
_MAX_KEY: Final = _MAX_DOMAIN + 1 + 63
_KEY: Final = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
)

LabelValue = Annotated[str, Meta(extra={"form": LABEL_VALUE})]
OwnLabels = Annotated[dict[str, LabelValue], Meta(max_length=MAX_ENTRIES)]
OwnAnnotations = Annotated[
    dict[str, Annotated[str, Meta(max_length=_MAX_ANNOTATION)]],
    Meta(max_length=MAX_ENTRIES),
]


def is_reserved(key: str) -> bool:
    """Whether the key is not the user's to give."""
    return key.startswith(RESERVED_PREFIXES) or key in RESERVED_KEYS


def is_key(key: str) -> bool:
    """Whether Kubernetes takes it as the key of a label or an annotation: `name` or `domain/name`."""
    return len(key.rpartition("/")[0]) <= _MAX_DOMAIN and re.fullmatch(_KEY, key) is not None


def key_rules(*fields: str) -> tuple[Rule, ...]:
    """The rules for the keys of a struct's maps, each by its name, which is the attribute's and the manifest's."""
    return tuple(rule for field in fields for rule in (_reserved_rule(field), _form_rule(field)))


def _reserved_rule(field: str) -> Rule:
    tests = [f"!key.startsWith('{prefix}')" for prefix in RESERVED_PREFIXES]
    tests.append(f"!(key in [{', '.join(repr(key) for key in RESERVED_KEYS)}])")
    return Rule(
        cel=f"!has(self.{field}) || self.{field}.all(key, {' && '.join(tests)})",
        message=(
            f"{field}: keys that begin with {', '.join(RESERVED_PREFIXES)} and the keys {', '.join(RESERVED_KEYS)} "
            "are not yours to set; leave them out"
        ),
        holds=lambda model: not any(is_reserved(key) for key in getattr(model, field) or {}),
    )


def _form_rule(field: str) -> Rule:
    return Rule(
        cel=f'!has(self.{field}) || self.{field}.all(key, size(key) <= {_MAX_KEY} && key.matches(r"{_KEY}"))',
        message=(
            f"{field}: a key must be a name of at most 63 letters, digits, '-', '_' and '.', starting and ending with "
            "a letter or digit, such as team, or a DNS name, '/' and such a name, such as example.com/team"
        ),
        holds=lambda model: all(is_key(key) for key in getattr(model, field) or {}),
    )
