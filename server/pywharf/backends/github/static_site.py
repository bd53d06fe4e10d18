"""An index as files for any static server (PEP 503 and PEP 691). Pure.

Such a server does not negotiate. Clients get `index.html`; the JSON page is next to it as `index.json`.
"""

from collections.abc import Iterator
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from pywharf.config.repo_config import GithubSpec
from pywharf.core.errors import BackendUnavailableError, InvalidNameError
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName, normalize
from pywharf.core.simple import project_html, project_json, root_html, root_json
from pywharf.index.codecs import Index

HTML = "index.html"
JSON = "index.json"
_ENTERPRISE = "/api/v3"
_API = "api."


def download_base(spec: GithubSpec) -> str:
    """Return the address that TAG/FILE is appended to, where anybody can download a public repository's assets."""
    parts = urlsplit(spec.api_url)
    host = parts.netloc.removeprefix(_API)
    path = parts.path.rstrip("/").removesuffix(_ENTERPRISE)
    return urlunsplit((parts.scheme, host, f"{path}/{spec.owner}/{spec.repo}/releases/download", "", ""))


def pages(index: Index, base: str) -> Iterator[tuple[ProjectName | None, dict[str, bytes]]]:
    """Yield each project's name and its folder's files by name, then None and the files of the list of projects.

    The list comes last, so that it never names a missing page. Raises BackendUnavailableError if this is not a pywharf
    index.
    """
    names = sorted(index)
    for name in names:
        _check(name)
        project = index.project(name) or Project(name=name)
        linked = msgspec.structs.replace(project, files=tuple(_linked(file, base) for file in project.files))
        yield name, {HTML: project_html(linked, foreign=True), JSON: project_json(linked, foreign=True)}
    yield None, {HTML: root_html(names), JSON: root_json(names)}


def _linked(file: File, base: str) -> File:
    """Add a file's download address. The tag is the file's name; `.metadata` after the address names the metadata."""
    name = quote(file.filename, safe="")
    return msgspec.structs.replace(file, location=f"{base.rstrip('/')}/{name}/{name}")


def _check(name: ProjectName) -> None:
    """Raise BackendUnavailableError if a name is not normalized, because names become folders."""
    try:
        normal = normalize(name) == name
    except InvalidNameError:
        normal = False
    if not normal:
        raise BackendUnavailableError(
            f"The index names a project {name[:200]!r}, which is no normalized name; run update_index."
        )
