"""The HTML pages for browsers, other than those of the Simple API."""

import functools
from typing import Any

import jinja2
from aiohttp import web

from pywharf.core.errors import PywharfError

PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
"""Headers of every page: not cached, no scripts, not shown in a frame."""


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("pywharf.web"), autoescape=True, undefined=jinja2.StrictUndefined
    )


def _render(template: str, **values: Any) -> bytes:
    return _environment().get_template(template).render(**values).encode()


def root_of(request: web.BaseRequest) -> str:
    """Return the server's root as a link relative to the browser's address, since a proxy may have added a prefix."""
    return "../" * (request.rel_url.raw_path.count("/") - 1) or "./"


def login_page(root: str, *, repo: str = "", next_path: str = "", message: str = "") -> bytes:
    """Render the sign-in form."""
    return _render("login.html", root=root, repo=repo, next=next_path, message=message)


def problem_page(request: web.BaseRequest, error: PywharfError) -> bytes:
    """Render an error for a person. The page of a 401 contains the sign-in form."""
    root, wanted = root_of(request), request.rel_url.raw_path
    return _render("problem.html", root=root, error=error, message=str(error), repo="", next=wanted)


def start_page(root: str, *, repo: str | None) -> bytes:
    """Render the page at `/`."""
    return _render("start.html", root=root, repo=repo)
