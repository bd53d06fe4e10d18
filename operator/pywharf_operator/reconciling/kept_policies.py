"""The policies that a server was given last, read from its ConfigMap: those that cannot be read now stay in force."""

import asyncio
import zlib
from typing import Final

from pywharf.core.policy.model import Policy
from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.cluster.live import annotations_of
from pywharf_operator.reconciling.adoption import belongs
from pywharf_operator.render import Finding
from pywharf_operator.render.digest import with_hash
from pywharf_operator.render.labels import object_name
from pywharf_operator.render.objects.config_map import CONFIG_KEY, own_keys, texts_of
from pywharf_operator.render.objects.policies import (
    POLICIES_KEY,
    policies_applied,
    policies_digest,
    policies_map,
)
from pywharf_operator.spec import ObjectKey, PackageServer
from pywharf_operator.spec.kinds import CONFIG_MAP
from pywharf_operator.spec.names import CONFIG_SUFFIX, POLICIES_SUFFIX, RENDERED_ANNOTATION

_UNKNOWN: Final = "KeptPoliciesUnknown"


class KeptPoliciesUnknownError(KubeError):
    """The error if nobody knows which policies are in force, so that nothing may be applied."""

    def __init__(self, fault: str) -> None:
        text = (
            f"{fault}, and some policies cannot be read, are invalid or do not fit, so what is in force is not known. "
            "Nothing is applied until the policies can be read and fit: give the operator its rights again, correct "
            "the policies whose condition Accepted is False, or restore the ConfigMap from a backup"
        )
        super().__init__(None, _UNKNOWN, text)
        self.finding = Finding(status=False, reason=_UNKNOWN, message=f"{text}.")


async def kept_policies(kube: Kube, server: PackageServer) -> tuple[Policy, ...]:
    """Return the policies that the server last had, from its own objects, so that a restart makes no difference.

    Raises KubeError; KeptPoliciesUnknownError if nobody knows them, so that nothing may be applied. An object without
    an owner counts as the server's if it may be adopted, e.g. after a restore from a backup.
    """
    policies, config = await asyncio.gather(_own(kube, server, POLICIES_SUFFIX), _own(kube, server, "config"))
    try:
        named = "" if config is None else _named_digest(config)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        named, fault = "unknown", f"ConfigMap {_key(server, CONFIG_SUFFIX)} cannot be read ({type(error).__name__})"
    else:
        fault = f"ConfigMap {_key(server, POLICIES_SUFFIX)} is missing"
    if policies is None:
        if not named:
            return ()
        raise KeptPoliciesUnknownError(fault)
    try:
        found = policies_applied(policies)
        text = texts_of(policies)[POLICIES_KEY]
    except ValueError as error:
        raise KeptPoliciesUnknownError(f"ConfigMap {_key(server, POLICIES_SUFFIX)} cannot be read ({error})") from error
    # A rollout that was interrupted leaves newer policies than the configuration names; the operator rendered both.
    if policies_digest(text) != named and not _is_rendered(policies, server, text):
        if not named:
            return ()
        raise KeptPoliciesUnknownError(f"ConfigMap {_key(server, POLICIES_SUFFIX)} was changed by somebody else")
    return found


async def _own(kube: Kube, server: PackageServer, suffix: str) -> Json | None:
    found = await kube.get(CONFIG_MAP, _key(server, suffix))
    return found if found is not None and belongs(CONFIG_MAP, found, server) else None


def _key(server: PackageServer, suffix: str) -> ObjectKey:
    return ObjectKey(server.key.namespace, object_name(server, suffix))


def _named_digest(config: Json) -> str:
    """Return the digest of the policies that an applied configuration names; empty if it names none.

    Raises OSError, EOFError, ValueError or zlib.error if it is none that the operator rendered.
    """
    keys = own_keys(texts_of(config).get(CONFIG_KEY, ""))
    if "credentials_revision" not in keys:  # it is in every configuration
        raise ValueError(CONFIG_KEY)
    digest = keys.get("policies_digest", "")
    return digest if isinstance(digest, str) else ""


def _is_rendered(policies: Json, server: PackageServer, text: str) -> bool:
    """Return whether the operator itself applied this text, by the digest that it writes on what it renders."""
    rendered = policies_map(server, text)
    if rendered is None:
        return False
    expected = with_hash(rendered)["metadata"]["annotations"][RENDERED_ANNOTATION]
    return bool(annotations_of(policies).get(RENDERED_ANNOTATION) == expected)
