"""The Simple Repository API: pages, files, metadata."""

from aiohttp import hdrs, web

from pywharf.core.access.permission import Permission
from pywharf.core.errors import NotFoundError
from pywharf.core.filenames import METADATA_SUFFIX
from pywharf.core.names import ProjectName, normalize
from pywharf.core.negotiation import PageFormat, accepts_gzip, negotiate
from pywharf.index.bounded_repository import SeenRepository
from pywharf.index.page_cache import Page
from pywharf.index.repo_files import UpstreamFile
from pywharf.web.auth import authorize
from pywharf.web.file_response import send
from pywharf.web.keys import SERVED_FILES
from pywharf.web.problems import nothing_at

_VARY = "Accept, Accept-Encoding, Authorization, Cookie"
_FILE_VARY = "Authorization, Cookie, Accept"
_HTML_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of HTML pages. They are strict, because the pages show text from other indexes and from anybody who may
write to the storage, and share their origin with this server's sessions."""
_PIECE = 1024 * 1024
"""Bytes of a page that are written in one step."""


async def root(request: web.Request) -> web.StreamResponse:
    """Answer GET …/simple/ with the list of all projects."""
    repository = (await authorize(request, Permission.READ)).repository
    page_format = negotiate(request.headers.get("Accept", ""))
    return await _page(request, await repository.root_page(page_format), page_format)


async def project(request: web.Request) -> web.StreamResponse:
    """Answer GET …/simple/<project>/ with the list of one project's files."""
    repository = (await authorize(request, Permission.READ)).repository
    raw = request.match_info["project"]
    name = normalize(raw)
    if name != raw:
        return _moved(request, f"../{name}/")
    page_format = negotiate(request.headers.get("Accept", ""))
    return await _page(request, await repository.project_page(name, page_format), page_format)


async def without_slash(request: web.Request) -> web.StreamResponse:
    """Redirect GET …/simple or …/simple/<project> to the same address with a slash (PEP 503)."""
    await authorize(request, Permission.READ)
    raw = request.match_info.get("project")
    return _moved(request, f"{normalize(raw)}/" if raw is not None else "simple/")


async def file(request: web.Request) -> web.StreamResponse:
    """Answer GET …/simple/<project>/<file> with the file, or with its metadata if `.metadata` is appended (PEP 658)."""
    repository = (await authorize(request, Permission.READ)).repository
    name = normalize(request.match_info["project"])
    filename = request.match_info["filename"]
    if filename.endswith(METADATA_SUFFIX):
        return await _metadata(request, repository, name, filename.removesuffix(METADATA_SUFFIX))
    found = await repository.find_file(name, filename)
    headers = {
        "ETag": f'"{found.sha256}"',
        "Cache-Control": "private, max-age=31536000, immutable",
        "Vary": _FILE_VARY,
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
        "X-Content-Type-Options": "nosniff",
    }
    if not found.sha256:  # another index does not say it, and nobody has fetched the file
        del headers["ETag"]
        headers["Cache-Control"] = "private, no-store"
    elif _matches(request, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    content = await repository.open_file(name, found)
    if (served_files := request.app.get(SERVED_FILES)) is not None and request.method == hdrs.METH_GET:
        served_files.note(repository.name, name, found.filename)
    return await send(request, content, found, headers)


async def nothing(request: web.Request) -> web.StreamResponse:
    """Answer GET of any other address in a repo: 404."""
    await authorize(request, Permission.READ)
    raise nothing_at(request)


async def _page(request: web.Request, page: Page, page_format: PageFormat) -> web.StreamResponse:
    body, etag, encoding = page.body, page.etag, None
    if accepts_gzip(request.headers.get("Accept-Encoding", "")):
        gzipped = await page.gzipped()
        if gzipped is not None:
            body, etag, encoding = gzipped, page.gzip_etag, "gzip"
    headers = {
        "ETag": etag,
        "Cache-Control": "private, max-age=0, must-revalidate",
        "Vary": _VARY,
        "Content-Type": page_format.content_type,
    }
    if _matches(request, etag):
        del headers["Content-Type"]
        return web.Response(status=304, headers=headers)
    if encoding:
        headers["Content-Encoding"] = encoding
    if page_format is not PageFormat.JSON:
        headers.update(_HTML_HEADERS)
    if len(body) <= _PIECE or request.method == hdrs.METH_HEAD:
        return web.Response(body=body, headers=headers)
    # Send pieces: a slow client then needs no copy of the page, and other clients do not wait for the copying.
    response = web.StreamResponse(headers=headers)
    response.content_length = len(body)
    await response.prepare(request)
    for start in range(0, len(body), _PIECE):
        await response.write(body[start : start + _PIECE])
    await response.write_eof()
    return response


def _matches(request: web.Request, etag: str) -> bool:
    """Return whether If-None-Match names the tag (RFC 9110, section 13.1.2; weak comparison)."""
    header = request.headers.get("If-None-Match")
    if header is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return etag in tags or "*" in tags


def _moved(request: web.Request, location: str) -> web.Response:
    query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
    headers = {"Location": location + query, "Cache-Control": "private", "Vary": _VARY}
    return web.Response(status=301, headers=headers)


async def _metadata(
    request: web.Request, repository: SeenRepository, name: ProjectName, filename: str
) -> web.StreamResponse:
    found = await repository.find_file(name, filename)
    if found.metadata_sha256 is None:
        raise NotFoundError(f"{filename!r} has no core metadata file.")
    headers = {
        "ETag": f'"{found.metadata_sha256}"',
        "Cache-Control": "private, max-age=31536000, immutable",
        "Vary": _FILE_VARY,
        "Content-Type": "text/plain; charset=utf-8",
        "X-Content-Type-Options": "nosniff",
    }
    if _matches(request, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    if request.method == hdrs.METH_HEAD and isinstance(found, UpstreamFile):
        return web.Response(headers=headers)  # nothing is fetched for a size
    return web.Response(body=await repository.read_metadata(name, found), headers=headers)
