"""Read TOML text, and write TOML text that certainly reads back equal.

The `toml` package's own encoder is wrong for some strings: a backslash before an x comes back broken, and a DEL
character raises. So strings are encoded here, and every text is checked by reading it back with `tomllib`.
"""

import re
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
_PLAIN = re.compile(r'(?:[A-Za-z0-9_-]++ = "[ !#-\[\]-~]*+"\n)*+\Z')
"""Lines of keys and texts that stand for themselves: no quotation mark, no backslash, nothing but printable ASCII."""
_TABLE = str.maketrans({chr(code): f"\\u{code:04x}" for code in _CONTROLS} | _ESCAPES)


def encode_string(value: str) -> str:
    """Encode a TOML basic string. Raises ValueError for a lone surrogate, which no TOML text can hold."""
    value.encode("utf-8")
    return f'"{value.translate(_TABLE)}"'


class _Encoder(toml.TomlEncoder):  # type: ignore[type-arg]
    def __init__(self) -> None:
        super().__init__()
        self.dump_funcs[str] = encode_string


def dumps(document: Mapping[str, Any]) -> str:
    """Encode the document as TOML. Raises ValueError if it holds something that TOML cannot express."""
    try:
        text: str = toml.dumps(document, encoder=_Encoder())
        same = tomllib.loads(text) == document
    except IndexError:  # a key with a control character breaks the package's own encoder
        text, same = "", False
    if not same:
        raise ValueError("the document does not read back equal from TOML")
    return text


def dumps_flat(strings: Mapping[str, str]) -> str:
    """Encode strings under plain keys as TOML, as `dumps` does, in a tenth of its time. Raises ValueError as it does.

    Only a text with escapes is read back: TOML gives every other one a single meaning.
    """
    text = "".join([f"{key} = {encode_string(value)}\n" for key, value in strings.items()])
    if _PLAIN.match(text) is not None:
        return text
    try:
        same = tomllib.loads(text) == strings
    except tomllib.TOMLDecodeError:
        same = False
    return text if same else dumps(strings)


def loads(text: str, source: str) -> dict[str, Any]:
    """Parse TOML. Raises InvalidConfigError that names `source` and, if tomllib reports them, the line and column."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfigError(f"{source} is not valid TOML: {error}.") from error
    except RecursionError as error:
        raise InvalidConfigError(f"{source} is not usable TOML: its values are nested too deeply.") from error
    except ValueError as error:  # for example Python's own limit of digits
        raise InvalidConfigError(
            f"{source} is not usable TOML: it holds a number or time that is too large."
        ) from error
