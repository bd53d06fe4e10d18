"""The flat strings of one file, in a `.meta` sidecar or a release's body, and a project's status file."""

import re
from collections.abc import Mapping

from pywharf.core.errors import InvalidConfigError
from pywharf.core.model import STATUSES, File, ProjectStatus
from pywharf.core.names import ProjectName
from pywharf.core.toml_text import dumps, loads
from pywharf.index.limits import MAX_TEXT

_NO_REASON = "true"
"""The value by which a sidecar records 'yanked, no reason given'; flat strings allow no other way."""
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_UPLOAD_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z\Z", re.ASCII)
_SIZE = re.compile(r"\d{1,15}\Z", re.ASCII)
_REVISION = re.compile(r"\d{1,15}\Z", re.ASCII)
_STAMP = re.compile(r"\d{1,20}:-?\d{1,20}\Z", re.ASCII)


def is_sha256(digest: str) -> bool:
    """Return whether a text is a SHA-256 in hexadecimal digits."""
    return _SHA256.match(digest) is not None


def meta_of(project: ProjectName, file: File) -> dict[str, str]:
    """Return the flat strings of a `.meta` sidecar or a release's body; `distrib` and `sha256` are always there."""
    meta = {"distrib": str(project), "sha256": file.sha256}
    if file.size is not None:
        meta["size"] = str(file.size)
    given = {
        "upload_time": file.upload_time,
        "requires_python": file.requires_python,
        "metadata_sha256": file.metadata_sha256,
        "stamp": file.stamp,
    }
    meta |= {key: value for key, value in given.items() if value is not None}
    if file.yanked is not None:
        meta["yanked"] = file.yanked or _NO_REASON
    if file.revision:
        meta["revision"] = str(file.revision)
    return meta


def file_from_meta(filename: str, meta: Mapping[str, str], location: str | None = None) -> File:
    """Return a file from its flat strings. Keys that are not ours are ignored (the original kept the whole form).

    A malformed value counts as unknown if it can be read from the storage again. Raises InvalidConfigError if `sha256`
    is missing or malformed.
    """
    sha256 = meta.get("sha256", "").lower()
    if not is_sha256(sha256):
        raise InvalidConfigError(f"the sha256 of {filename!r} is {sha256[:80]!r}; it must be 64 hexadecimal digits.")
    yanked = meta.get("yanked")
    return File(
        filename=filename,
        sha256=sha256,
        size=int(size) if (size := _formed(meta, "size", _SIZE)) else None,
        upload_time=_formed(meta, "upload_time", _UPLOAD_TIME),
        requires_python=meta.get("requires_python") or None,
        metadata_sha256=_formed(meta, "metadata_sha256", _SHA256),
        yanked="" if yanked == _NO_REASON else yanked,
        location=location,
        stamp=_formed(meta, "stamp", _STAMP),
        revision=int(_formed(meta, "revision", _REVISION) or 0),
    )


def _formed(meta: Mapping[str, str], key: str, form: re.Pattern[str]) -> str | None:
    value = meta.get(key, "")
    return value if form.match(value) else None


def parse_meta(text: str, source: str) -> dict[str, str]:
    """Parse a `.meta` sidecar. Raises InvalidConfigError unless it is flat strings, with distrib and sha256."""
    table = loads(text, source)
    wrong = sorted(key for key, value in table.items() if not isinstance(value, str))
    missing = sorted({"distrib", "sha256"} - table.keys())
    if wrong or missing:
        raise InvalidConfigError(
            f"{source}: " + (f"{wrong[0]!r} is not a string." if wrong else f"{missing[0]!r} is missing.")
        )
    return table


def parse_status(text: str, source: str) -> ProjectStatus:
    """Parse a project's status file (PEP 792): `status`, and optionally `reason` and `revision`.

    A file that somebody wrote by hand needs no revision. Raises InvalidConfigError.
    """
    table = loads(text, source)
    status, reason, revision = table.get("status"), table.get("reason"), table.get("revision", 0)
    if (
        status not in STATUSES
        or not isinstance(reason, str | None)
        or type(revision) is not int
        or revision < 0
        or table.keys() - {"status", "reason", "revision"}
    ):
        raise InvalidConfigError(
            f"{source}: status must be one of {', '.join(STATUSES)}, with an optional text `reason` and number "
            "`revision`, nothing else."
        )
    if reason is not None and len(reason) > MAX_TEXT:
        raise InvalidConfigError(
            f"{source}: its reason has {len(reason)} characters; at most {MAX_TEXT} are allowed. Shorten it."
        )
    return ProjectStatus(status, reason, revision)


def status_text(status: ProjectStatus) -> str:
    """Return the text of a project's status file, which `parse_status` reads."""
    reason = {} if status.reason is None else {"reason": status.reason}
    return dumps({"status": status.status, **reason, "revision": status.revision})
