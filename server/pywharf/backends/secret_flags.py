"""Read the secrets that a command's flags give: `--secret`, `--secret_env`, `--secret_file`, or a file's path."""

import os
from pathlib import Path

import msgspec

from pywharf.core.errors import InvalidConfigError
from pywharf.core.os_errors import reason_of
from pywharf.core.secret_text import secret_text


def given_secret(settings: msgspec.Struct, prefix: str = "") -> str | None:
    """Return the secret in clear text; None if no flag was given.

    `prefix` is put before each field's name. A command may lack the flag that takes the secret itself.

    Raises InvalidConfigError, whose text does not show the secret.
    """
    fields = {
        f"--{prefix}{kind}": getattr(settings, prefix + kind, None) for kind in ("secret", "secret_env", "secret_file")
    }
    given = [flag for flag, value in fields.items() if value is not None]
    if len(given) > 1:
        raise InvalidConfigError(f"{' and '.join(given)} do not go together; give one.")
    secret: str | None
    secret, variable, path = fields.values()
    if path is not None:
        value = secret_of_file(path, given[0])
        if not value:
            raise InvalidConfigError(f"{given[0]}: the file is empty; give the secret there.")
        return value
    if variable is None:
        return None if secret is None else secret_text(secret)
    value = secret_text(os.environ.get(variable, ""))
    if not value:
        raise InvalidConfigError(f"{given[0]}: the environment variable {variable} is empty or not set.")
    return value


def secret_of_file(path: str, flag: str) -> str:
    """Read the file that a flag names; it may be empty. Raises InvalidConfigError.

    The error's text does not show the path, because someone may have given the secret itself.
    """
    try:
        return secret_text(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidConfigError(
            f"{flag}: its file cannot be read: {reason}. It is the path of a file that holds the secret."
        ) from error
