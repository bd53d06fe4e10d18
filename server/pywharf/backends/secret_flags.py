"""Read a command's secret from one of three flags: `--secret`, `--secret_env`, `--secret_file`."""

import os
from pathlib import Path

import msgspec

from pywharf.core.errors import InvalidConfigError
from pywharf.core.secret_text import secret_text


def given_secret(settings: msgspec.Struct, prefix: str = "") -> str | None:
    """Return the secret in clear text; None if no flag was given.

    `prefix` is put before each field's name. Raises InvalidConfigError, whose text does not show the secret.
    """
    fields = {f"--{prefix}{kind}": getattr(settings, prefix + kind) for kind in ("secret", "secret_env", "secret_file")}
    given = [flag for flag, value in fields.items() if value is not None]
    if len(given) > 1:
        raise InvalidConfigError(f"{' and '.join(given)} do not go together; give one.")
    secret: str | None
    secret, variable, path = fields.values()
    if path is not None:
        return _of_file(path, given[0])
    if variable is None:
        return None if secret is None else secret_text(secret)
    value = secret_text(os.environ.get(variable, ""))
    if not value:
        raise InvalidConfigError(f"{given[0]}: the environment variable {variable} is empty or not set.")
    return value


def _of_file(path: str, flag: str) -> str:
    try:
        value = secret_text(Path(path).read_bytes())
    except (OSError, ValueError) as error:  # the path is not shown: someone may have given the secret itself
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InvalidConfigError(
            f"{flag}: its file cannot be read: {reason}. It is the path of a file that holds the secret."
        ) from error
    if not value:
        raise InvalidConfigError(f"{flag}: the file is empty; give the secret there.")
    return value
