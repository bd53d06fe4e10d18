"""Read `dataindex.json` of an export that `devpi-export` wrote. Pure.

Below the export's folder the files of each index are in `USER/INDEX/PROJECT/VERSION/FILE`.
"""

from email.utils import parsedate_to_datetime

import msgspec

from pywharf.core.errors import InvalidConfigError
from pywharf.core.model import rfc3339
from pywharf.core.msgspec_warmup import warmed_up

FILENAME = "dataindex.json"
MAX_BYTES = 512 * 1024 * 1024


class _Entry(msgspec.Struct, frozen=True):
    last_modified: str | None = None


class _File(msgspec.Struct, frozen=True):
    relpath: str
    type: str = ""
    entrymapping: _Entry = _Entry()


class _Index(msgspec.Struct, frozen=True):
    files: tuple[_File, ...] = ()


@warmed_up
class _Export(msgspec.Struct, frozen=True):
    indexes: dict[str, _Index]


def upload_times(content: bytes) -> dict[str, dict[str, str]]:
    """Return the indexes that have files: for each, the upload times (RFC 3339) of its files by path in the export.

    Raises InvalidConfigError if the content is not a devpi export's.
    """
    try:
        export = msgspec.json.decode(content, type=_Export)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidConfigError(f"FROM: {FILENAME} is not one that devpi-export writes: {error}.") from error
    return {
        name: {file.relpath: _time(file.entrymapping.last_modified) for file in index.files}
        for name, index in export.indexes.items()
        if any(file.type == "releasefile" for file in index.files)
    }


def _time(date: str | None) -> str:
    try:
        return rfc3339(parsedate_to_datetime(date or "").timestamp())
    except (TypeError, ValueError, OverflowError):
        return ""
