"""The check of an object store's secret, so that a malformed one is a condition of its repo alone."""

from collections.abc import Callable, Mapping
from typing import Final

from pywharf.config.store_credentials import parse_azure_credentials, parse_gcs_service_account, parse_s3_keys
from pywharf.core.errors import InvalidConfigError

_PARSERS: Final[Mapping[str, Callable[[str], object]]] = {
    "s3": parse_s3_keys,
    "gcs": parse_gcs_service_account,
    "azure": parse_azure_credentials,
}


def fault_of_store_secret(backend: str, text: str) -> str | None:
    """Return why a store of that type cannot use the secret, without showing it; None if it can, or is no store."""
    parse = _PARSERS.get(backend)
    try:
        if parse is not None:
            parse(text)
    except InvalidConfigError as error:
        return str(error)
    return None
