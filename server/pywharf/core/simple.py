"""The Simple Repository API, version 1.4, as HTML and JSON (PEP 503, 592, 629, 658, 691, 700, 714, 740, 792)."""

import html
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from pywharf.core.filenames import version_of
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.core.policy.evaluation import Withheld
from pywharf.core.policy.withholding import entry_of

API_VERSION = "1.4"
_BEFORE_SIZES = "1.0"
"""The API version of a JSON page that lacks some sizes; 1.1 (PEP 700) requires every size."""

_MAX_WITHHELD = 1_000
"""Withheld files that a JSON page names."""


def root_html(names: Sequence[ProjectName]) -> bytes:
    """Render the page of all projects as HTML."""
    # Normalized names need no escaping, but these come from an index file, which may hold other names.
    links = "\n".join(f'<a href="{name}/">{name}</a><br>' for name in map(html.escape, names))
    return _document("Simple index", links)


def root_json(names: Sequence[ProjectName]) -> bytes:
    """Render the page of all projects as JSON."""
    return msgspec.json.encode({"meta": {"api-version": API_VERSION}, "projects": [{"name": name} for name in names]})


def project_html(project: Project, *, foreign: bool = False) -> bytes:
    """Render one project's page as HTML. Links are relative; on a `foreign` page they are the files' locations."""
    meta = ""
    if project.status != "active":
        meta = f'<meta name="pypi:project-status" content="{html.escape(project.status)}">'
    if meta and project.status_reason:
        reason = html.escape(project.status_reason)
        meta += f'\n<meta name="pypi:project-status-reason" content="{reason}">'
    links = "\n".join(_anchor(f, _url(f, foreign)) for f in _offered(project))
    return _document(f"Links for {project.name}", links, meta)


def project_json(project: Project, *, foreign: bool = False, withheld: Sequence[Withheld] = ()) -> bytes:
    """Render one project's page as JSON; see `project_html`. It also names the first of the withheld files.

    PEP 700 requires every size. So our own page omits a file whose size is not known yet, and a foreign page that lacks
    a size has an older API version.
    """
    offered = _offered(project)
    sized = all(f.size is not None for f in offered)
    version = API_VERSION if sized or not foreign else _BEFORE_SIZES
    page: dict[str, Any] = {"meta": {"api-version": version}, "name": project.name}
    if version == API_VERSION:
        page["project-status"] = _status(project)
        page["versions"] = versions(project.name, (f.filename for f in offered))
    # Encode each file separately: one call for a page of 100,000 would block the event loop, even from a thread.
    page["files"] = [_file_json(f, _url(f, foreign)) for f in offered if foreign or f.size is not None]
    if withheld:
        # A key of our own begins with an underscore (PEP 691).
        page["_pywharf"] = {
            "withheld": [entry_of(one) for one in withheld[:_MAX_WITHHELD]],
            "withheld-total": len(withheld),
        }
    return msgspec.json.encode(page)


def versions(name: ProjectName, filenames: Iterable[str]) -> list[str]:
    """Return the versions in the file names, without duplicates, in their order."""
    return list(dict.fromkeys(v for v in (version_of(f, name) for f in filenames) if v is not None))


def _offered(project: Project) -> Sequence[File]:
    return project.files if project.offers_files else ()


def _url(file: File, foreign: bool) -> str:  # noqa: FBT001 - passed on
    return file.location or "" if foreign else quote(file.filename)


def _status(project: Project) -> dict[str, str]:
    status = {"status": project.status}
    if project.status_reason:
        status["reason"] = project.status_reason
    return status


def _anchor(file: File, url: str) -> str:
    fragment = f"#sha256={html.escape(file.sha256)}" if file.sha256 else ""
    parts = [f'<a href="{html.escape(url)}{fragment}"']
    if file.requires_python is not None:
        parts.append(f' data-requires-python="{html.escape(file.requires_python)}"')
    if file.metadata_sha256 is not None:
        digest = f"sha256={html.escape(file.metadata_sha256)}" if file.metadata_sha256 else "true"
        parts.append(f' data-core-metadata="{digest}" data-dist-info-metadata="{digest}"')
    if file.yanked is not None:
        parts.append(f' data-yanked="{html.escape(file.yanked)}"')
    if file.provenance is not None:
        parts.append(f' data-provenance="{html.escape(file.provenance)}"')
    parts.append(f">{html.escape(file.filename)}</a><br>")
    return "".join(parts)


def _file_json(file: File, url: str) -> msgspec.Raw:
    entry: dict[str, Any] = {
        "filename": file.filename,
        "url": url,
        "hashes": {"sha256": file.sha256} if file.sha256 else {},
    }
    if file.size is not None:
        entry["size"] = file.size
    if file.upload_time is not None:
        entry["upload-time"] = file.upload_time
    if file.requires_python is not None:
        entry["requires-python"] = file.requires_python
    if file.metadata_sha256 is not None:
        # Do not add dist-info-metadata, the key's first name, as well: pip 22.3 to 23.1 fail on it (PEP 714).
        entry["core-metadata"] = {"sha256": file.metadata_sha256} if file.metadata_sha256 else True
    if file.provenance is not None:
        entry["provenance"] = file.provenance
    entry["yanked"] = False if file.yanked is None else (file.yanked or True)
    return msgspec.Raw(msgspec.json.encode(entry))


def _document(title: str, body: str, extra_head: str = "") -> bytes:
    head = f'<meta name="pypi:repository-version" content="{API_VERSION}">'
    if extra_head:
        head += f"\n{extra_head}"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{head}\n<title>{title}</title>\n'
        f"</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    ).encode()
