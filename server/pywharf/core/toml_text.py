"""TOML text, written so that it certainly reads back equal.

The `toml` package's own encoder is wrong for some strings (a backslash before an x comes back broken, a DEL
character raises), so strings are encoded here, and every text is read back with `tomllib` before it counts.
"""

import tomllib
from collections.abc import Mapping
from typing import Any

import toml

from pywharf.core.errors import InvalidConfigError

_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\f": "\\f",
    "\r": "\\r",
}
_DELETE = 0x7F
_CONTROLS = (*range(0x20), _DELETE)
_TABLE = str.maketrans({chr(code): f"\\u{code:04x}" for code in _CONTROLS} | _ESCAPES)


def encode_string(value: str) -> str:
    """A TOML basic string. Raises ValueError for a lone surrogate, which no TOML text can hold."""
    value.encode("utf-8")
    return f'"{value.translate(_TABLE)}"'


class _Encoder(toml.TomlEncoder):  # type: ignore[type-arg]
    def __init__(self) -> None:
        super().__init__()
        self.dump_funcs[str] = encode_string


def dumps(document: Mapping[str, Any]) -> str:
    """The document as TOML. Raises ValueError where it holds what TOML cannot express."""
    try:
        text: str = toml.dumps(document, encoder=_Encoder())
        same = tomllib.loads(text) == document
    except IndexError:  # of a key with a control character, which the package's own encoder breaks on
        text, same = "", False
    if not same:
        raise ValueError("the document does not read back equal from TOML")
    return text


def loads(text: str, source: str) -> dict[str, Any]:
    """Read TOML. Raises InvalidConfigError that names `source` and, where tomllib knows, the line and the column."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfigError(f"{source} is not valid TOML: {error}.") from error
    except RecursionError as error:
        raise InvalidConfigError(f"{source} is not usable TOML: its values are nested too deeply.") from error
    except ValueError as error:  # Python's own limit of digits, say
        raise InvalidConfigError(
            f"{source} is not usable TOML: it holds a number or time that is too large."
        ) from error
