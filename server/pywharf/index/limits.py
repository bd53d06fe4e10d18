"""The size limits of a repo's texts, records, journal and index.

A few bytes of an upload may unpack to megabytes of text, which would go into the journal, the index, every page and
each server's memory. Past a limit, only that text, file or index is refused; the error names the number.
"""

from pywharf.core.filenames import MAX_FILENAME
from pywharf.core.model import STATUSES, File
from pywharf.index.ports import JournalEntry

MAX_TEXT = 4_096
"""Characters of one text that pages show: Requires-Python, the reason of a yank or of a project's status."""
MAX_LOCATION = 2_048
_MAX_FORMED = 64
"""Characters of a text with a fixed form: a digest, a time, a stamp."""
MAX_RECORD_BYTES = 2 * 1024 * 1024
"""Bytes of a `.meta` sidecar; the original kept the whole form in it, with the description."""
MAX_STATUS_BYTES = 64 * 1024
MAX_LINE_BYTES = 64 * 1024
"""Bytes of one journal entry."""
MAX_JOURNAL_BYTES = 64 * 1024 * 1024
"""Bytes of the journal: some 150,000 uploads since the last update_index."""
MAX_PROJECTS = 200_000
MAX_PROJECT_FILES = 50_000
"""Files of one project, which one page lists; the largest projects of PyPI have a third of that."""
MAX_RELEASE_FILES = 2_000
"""Files of one release that one request changes; the largest releases of PyPI have some two hundred."""
MAX_PROJECT_BYTES = 64 * 1024 * 1024
"""Bytes of one project in an index.json, which is decoded in one call."""
MAX_INDEX_BYTES = {"toml": 32 * 1024 * 1024, "json": 128 * 1024 * 1024}
"""Bytes by codec: some 50,000 files in TOML, some 400,000 in JSON. TOML takes a hundred times as long to read."""


def max_index_bytes(filename: str) -> int:
    """Return the maximum size in bytes of an index file of that name."""
    return MAX_INDEX_BYTES["json" if filename.endswith(".json") else "toml"]


def fault_of(file: File) -> str | None:
    """Return what is too long in a stored record, as the rest of a sentence with the number, or None."""
    limits = (
        ("its name", file.filename, MAX_FILENAME),
        ("its sha256", file.sha256, _MAX_FORMED),
        ("its metadata_sha256", file.metadata_sha256, _MAX_FORMED),
        ("its upload_time", file.upload_time, _MAX_FORMED),
        ("its stamp", file.stamp, _MAX_FORMED),
        ("its requires_python", file.requires_python, MAX_TEXT),
        ("the reason why it is yanked", file.yanked, MAX_TEXT),
        ("its address", file.location, MAX_LOCATION),
        ("its provenance", file.provenance, MAX_LOCATION),
    )
    for what, text, most in limits:
        if text is not None and len(text) > most:
            return f"{what} has {len(text)} characters; at most {most} are allowed. Shorten it."
    return None


def fault_of_entry(entry: JournalEntry) -> str | None:
    """Return what is wrong with a stored journal entry, as the rest of a sentence, or None."""
    if entry.file is not None:
        return fault_of(entry.file)
    if entry.deletion is not None:
        length = len(entry.deletion.filename)
        return (
            f"its name has {length} characters; at most {MAX_FILENAME} are allowed." if length > MAX_FILENAME else None
        )
    if entry.status is not None:
        if entry.status.status not in STATUSES:
            return f"its status must be one of {', '.join(STATUSES)}."
        length = len(entry.status.reason or "")
        return f"its reason has {length} characters; at most {MAX_TEXT} are allowed." if length > MAX_TEXT else None
    return "it is of a kind that this version does not know; update_index will find what it is about."
