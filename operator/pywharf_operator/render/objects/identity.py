"""The document `identity.json` in the ConfigMap `<server>-config`: whom the server believes. It holds no secret.

It lies beside the repos' tables, so that an access entry and the keys that it needs arrive together.
"""

import hashlib
import zlib
from typing import Final

import msgspec

from pywharf.core.access.identity_document import IdentityDocument, parse_document
from pywharf.core.errors import InvalidConfigError
from pywharf_operator.render.labels import Manifest
from pywharf_operator.render.objects.config_map import CONFIG_KEY, own_keys, texts_of

IDENTITY_KEY: Final = "identity.json"


def identity_text(document: IdentityDocument | None) -> str:
    """Return the document as the server reads it; empty if it needs none."""
    return "" if document is None else msgspec.json.encode(document, order="deterministic").decode()


def identity_keys(text: str, folder: str) -> dict[str, str]:
    """Return the configuration's own keys that name the document; none if there is none."""
    if not text:
        return {}
    return {"identity_file": f"{folder}/{IDENTITY_KEY}", "identity_digest": hashlib.sha256(text.encode()).hexdigest()}


def identity_applied(config_map: Manifest) -> IdentityDocument | None:
    """Return the document of a ConfigMap, as stored by the API server; None if its configuration names no such one."""
    try:
        texts = texts_of(config_map)
        text, named = texts.get(IDENTITY_KEY, ""), own_keys(texts.get(CONFIG_KEY, "")).get("identity_digest")
        if not text or identity_keys(text, "")["identity_digest"] != named:
            return None
        return parse_document(text.encode())
    except (OSError, EOFError, ValueError, zlib.error, InvalidConfigError):
        return None
