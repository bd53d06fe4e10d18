"""The ConfigMap `<server>-policies`, to which the server's configuration refers: every policy that concerns it."""

import hashlib
import zlib
from collections.abc import Iterable
from typing import Final

import msgspec

from pywharf.core.policy.model import Policy, PolicyDocument
from pywharf_operator.render.labels import Manifest
from pywharf_operator.render.objects.config_map import map_of_texts, texts_of
from pywharf_operator.spec import PackageServer
from pywharf_operator.spec.names import POLICIES_SUFFIX

POLICIES_KEY: Final = "policies.json"


def policies_text(policies: Iterable[Policy]) -> str:
    """Return the document that the server reads; empty without any policy. Their order does not matter."""
    listed = tuple(sorted(policies, key=lambda one: one.name))
    return msgspec.json.encode(PolicyDocument(policies=listed)).decode() if listed else ""


def policies_digest(text: str) -> str:
    """Return the digest by which the configuration names the document."""
    return hashlib.sha256(text.encode()).hexdigest()


def policies_map(server: PackageServer, text: str) -> Manifest | None:
    """Render the ConfigMap; None without any policy. Its text is compressed if it is large."""
    return map_of_texts(server, POLICIES_SUFFIX, {POLICIES_KEY: text}) if text else None


def policies_applied(made: Manifest) -> tuple[Policy, ...]:
    """Return the policies in a ConfigMap, as stored by the API server. Raises ValueError if it is unreadable."""
    try:
        text = texts_of(made)[POLICIES_KEY]
        return msgspec.json.decode(text, type=PolicyDocument).policies
    except (OSError, EOFError, KeyError, ValueError, zlib.error) as error:
        raise ValueError(type(error).__name__) from error
