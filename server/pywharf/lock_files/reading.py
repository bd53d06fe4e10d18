"""Read a lock file. Its name tells its format."""

import re
from pathlib import Path

from pywharf.core.errors import InvalidConfigError
from pywharf.core.os_errors import reason_of
from pywharf.lock_files.pins import Lock
from pywharf.lock_files.pylock import parse_pylock
from pywharf.lock_files.requirements import parse_requirements
from pywharf.lock_files.uv_lock import parse_uv_lock

_MAX_BYTES = 32 * 1024**2
_PYLOCK = re.compile(r"pylock(\.[^.]+)?\.toml\Z")


def read_lock(path: Path) -> Lock:
    """Read and parse a lock file. Raises InvalidConfigError, also for a name that tells no known format."""
    name = path.name
    if name == "uv.lock":
        parse = parse_uv_lock
    elif _PYLOCK.match(name):
        parse = parse_pylock
    elif path.suffix in {".txt", ".in"}:
        parse = parse_requirements
    else:
        raise InvalidConfigError(
            f"{name[:200]!r} is not the name of a lock file that can be read: uv.lock, pylock.toml, pylock.NAME.toml "
            "or a requirements file whose name ends in .txt."
        )
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InvalidConfigError(f"{path} cannot be read: {reason_of(error)}.") from error
    if len(content) > _MAX_BYTES:
        raise InvalidConfigError(f"{path} is larger than {_MAX_BYTES} bytes.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidConfigError(f"{path} is not UTF-8 (byte {error.start}).") from error
    return parse(text, str(path))
