"""The Secret `<server>-session`, which holds the key that replicas sign cookies with.

It is created once; later only its metadata changes. One that lost its owner, e.g. after a restore, is adopted with the
key that it holds.
"""

import base64
import binascii
import secrets

from pywharf.core.secret_text import token_text
from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.cluster.live import metadata_change, other_owner
from pywharf_operator.reconciling.adoption import adoption, belongs, is_orphan
from pywharf_operator.reconciling.owner import confirm_owner
from pywharf_operator.render import Finding
from pywharf_operator.render.digest import with_hash
from pywharf_operator.render.labels import Manifest, metadata, object_name
from pywharf_operator.render.pod.pod_template import SESSION_KEY
from pywharf_operator.spec import ObjectKey, PackageServer
from pywharf_operator.spec.kinds import SECRET

_BYTES = 32
_TRIES = 4


class ForeignSecretError(Exception):
    """A Secret of that name belongs to somebody else. The text says to whom."""


async def session_key(kube: Kube, server: PackageServer) -> bytes:
    """Return the key; create it if there is none. Raises ForeignSecretError and KubeError."""
    name = object_name(server, "session")
    key = ObjectKey(server.key.namespace, name)
    for _ in range(_TRIES):
        found = await kube.get(SECRET, key)
        if found is None:
            found = await kube.create(SECRET, _manifest(server))
        if found is None:
            continue  # somebody else was faster: check whose it is
        if not belongs(SECRET, found, server):
            raise ForeignSecretError(f"Secret {key}: {other_owner(found, server.metadata.uid or '')}")
        value = signing_key_of(found)
        if value:
            if is_orphan(SECRET, found, server):
                await confirm_owner(kube, server)
                await kube.apply(SECRET, adoption(found, server))
            await _update_metadata(kube, server, key, found)
            return value
        # Emptied or broken by hand: create it again, which only logs browsers out.
        await kube.delete(SECRET, key, found["metadata"]["uid"])
    raise KubeError(
        None,
        "SessionKeyMissing",
        f"Secret {key} holds no key and does not go; remove its finalizers, or whatever makes it again.",
    )


async def key_or_finding(kube: Kube, server: PackageServer) -> bytes | Finding:
    """Return the key, or the condition ConfigRendered that says why there is none. Raises KubeError."""
    try:
        return await session_key(kube, server)
    except ForeignSecretError as error:
        return Finding(status=False, reason="ObjectNotOwned", message=str(error))
    except KubeError as error:
        if not error.is_permanent:
            raise
        why = f"Secret {object_name(server, 'session')}: the API server refuses it: {error.message or error.reason}"
        return Finding(status=False, reason="ApplyRefused", message=why)


async def _update_metadata(kube: Kube, server: PackageServer, key: ObjectKey, found: Json) -> None:
    change = metadata_change(found, _metadata(server))
    if not change:
        return
    try:
        await kube.merge(SECRET, key, {"metadata": {"uid": found["metadata"]["uid"], **change}})
    except KubeError as error:
        if not error.is_permanent:
            raise
        # The key exists and works. Whatever rejects a label here also rejects it in other objects, which is reported.


def _metadata(server: PackageServer) -> Manifest:
    """Return the Secret's metadata, with its hash as an annotation."""
    made: Manifest = with_hash({"metadata": metadata(server, "session")})["metadata"]
    return made


def _manifest(server: PackageServer) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(server),
        "type": "Opaque",
        "data": {SESSION_KEY: base64.b64encode(secrets.token_hex(_BYTES).encode()).decode()},
    }


def signing_key_of(found: Json) -> bytes:
    """Return the key that a Secret holds; empty if the servers would not accept it."""
    try:
        content = base64.b64decode((found.get("data") or {}).get(SESSION_KEY) or "", validate=True)
        return token_text(content).encode()
    except (binascii.Error, TypeError, UnicodeDecodeError):
        return b""
