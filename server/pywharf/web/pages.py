"""The pages for browsers that are no Simple API pages."""

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
"""Of every page: not kept, no script, in nobody's frame."""


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("pywharf.web"), autoescape=True, undefined=jinja2.StrictUndefined
    )


def _render(template: str, **values: Any) -> bytes:  # noqa: ANN401 - what the template names
    return _environment().get_template(template).render(**values).encode()


def login_page(*, repo: str = "", next_path: str = "", message: str = "") -> bytes:
    """The form that makes a session."""
    return _render("login.html", repo=repo, next=next_path, message=message)


def problem_page(request: web.BaseRequest, error: PywharfError) -> bytes:
    """An error for a person; one of missing credentials holds the login form."""
    return _render("problem.html", error=error, message=str(error), repo="", next=request.rel_url.raw_path)


def start_page(*, repo: str | None) -> bytes:
    """What stands at `/`."""
    return _render("start.html", repo=repo)
