"""Read a file that the configuration consists of, or that it names. Each fault is one sentence with the path."""

import hashlib
from collections.abc import Callable

from pywharf.core.errors import IncompleteConfigError, InvalidConfigError
from pywharf.core.os_errors import reason_of
from pywharf.serving.watched_files import Seen, UnreadableFileError, take, take_if_there, take_plain_or_compressed

_MAX_PATH = 300
"""Characters of a path that errors show. A longer one is a text, or not worth showing."""


def take_arrived(path: str, seen: Seen) -> bytes:
    """Read a file. Raises IncompleteConfigError if it does not exist yet."""
    content = take_if_there(path, seen)
    if content is None:
        raise IncompleteConfigError(
            f"The secrets have not all arrived: there is no {path} yet; the configuration is taken as soon as it is."
        )
    return content


def read_text(path: str, what: str, seen: Seen, take: Callable[[str, Seen], bytes] = take) -> str:
    """Read a file's text by `take`; `what` names it in messages. Raises InvalidConfigError."""
    try:
        return take(path, seen).decode()
    except OSError as error:
        # A text given instead of a path is not shown: it may hold secrets.
        if len(path) > _MAX_PATH or any(c in path for c in "\n=["):
            raise InvalidConfigError(
                f"{what} is the path of a file; what was given looks like the file's text. "
                "Texts are taken with --config_or_admin_secret_can_be_text."
            ) from None
        raise InvalidConfigError(f"{what}: the file {path} cannot be read: {reason_of(error)}.") from error
    except UnreadableFileError as error:
        raise InvalidConfigError(f"{what}: the file {path} {error}.") from error
    except (UnicodeDecodeError, ValueError) as error:
        raise InvalidConfigError(f"{what}: the file {path[:_MAX_PATH]!r} is not UTF-8 text.") from error


def read_document(path: str, key: str, what: str, wanted: str | None, seen: Seen) -> tuple[str, str]:
    """Read a document that a configuration names by `key`, plain or compressed. Returns its text and digest.

    `what` names it in messages, in the plural. `wanted` is the digest that the configuration needs, or None.
    Raises IncompleteConfigError if it has not arrived yet, InvalidConfigError if it cannot be read.
    """

    def take_delivered(path: str, seen: Seen) -> bytes:
        try:
            return take_plain_or_compressed(path, seen)
        except FileNotFoundError:
            raise IncompleteConfigError(
                f"{what} have not arrived: there is no {path} yet; the configuration is taken as soon as it is."
            ) from None

    text = read_text(path, key, seen, take_plain_or_compressed if wanted is None else take_delivered)
    digest = hashlib.sha256(text.encode()).hexdigest()
    if wanted is not None and digest != wanted:
        raise IncompleteConfigError(
            f"{what} of {path} have the digest {digest[:12]!r}, the configuration needs {wanted[:12]!r}; it is taken "
            "as soon as they arrive."
        )
    return text, digest
