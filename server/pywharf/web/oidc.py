"""Trusted publishing as clients speak it: the audience, minting, burning, and the discovery of PEP 807.

No call needs a secret, and no answer tells which repos exist.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from pywharf.core.addresses import site
from pywharf.core.audit import Burn, Mint
from pywharf.core.errors import (
    ForbiddenError,
    InvalidNameError,
    NotAcceptableError,
    NotFoundError,
    PywharfError,
    TokenRefusedError,
    UnavailableError,
)
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import RepoName, parse_repo_name
from pywharf.serving.trusted_publishing.minting import Minting
from pywharf.web import audit
from pywharf.web.client_address import client_address
from pywharf.web.forms import read_body
from pywharf.web.keys import MINTING, MINTS
from pywharf.web.problems import problem
from pywharf.web.refusals import refused, wrong_secret
from pywharf.web.transport import is_secure

AUDIENCE: Final = "/_/oidc/audience"
MINT: Final = "/_/oidc/mint-token"
BURN: Final = "/_/oidc/burn-token"
DISCOVERY: Final = "/.well-known/pytp"

MAX_JWT: Final = 8 * 1024
"""Characters of a token that is exchanged or burned."""
_MAX_BODY_BYTES: Final = 16 * 1024
_LONGEST_S: Final = 10.0
_MEDIA_TYPE: Final = "application/vnd.pypi.pytp.v1+json"
_ACCEPTED: Final = (_MEDIA_TYPE, "application/json", "application/*", "*/*", "text/html")
"""What PEP 807 asks for, and what clients send that know nothing of it. Browsers ask for HTML, and get JSON."""
_FEATURES: Final = ("multi-use-token",)
"""What minted tokens can do, by PEP 807."""
_UPLOADS: Final = re.compile(r"/repo/([^/]+)/simple/?")

_Handler = Callable[[web.Request], Awaitable[web.Response]]


@warmed_up
class _TokenSent(msgspec.Struct, frozen=True):
    """The body of a request to mint or to burn. Fields that it does not name are ignored, as on PyPI."""

    token: Annotated[str, Meta(min_length=1, max_length=MAX_JWT)]
    features: Annotated[tuple[str, ...], Meta(max_length=16)] | None = None


def _answering(handler: _Handler) -> _Handler:
    """Answer errors as clients of PyPI read them: with `message` and `errors` beside the fields of RFC 9457."""

    async def answering(request: web.Request) -> web.Response:
        try:
            _check_transport(request)
            _check_accepted(request)
            return await handler(request)
        except TokenRefusedError as error:
            repo = request.query.get("repo", "")
            answer = await wrong_secret(request, repo, error, error.reason, error.subject)
        except PywharfError as error:
            answer = await refused(request, error)
        code = answer.kind if isinstance(answer, TokenRefusedError) else answer.code
        said = {"message": answer.title, "errors": [{"code": code, "description": str(answer)}]}
        return problem(request, answer, said)

    return answering


@_answering
async def give_audience(request: web.Request) -> web.Response:
    """Answer GET /_/oidc/audience with the audience that an OIDC token needs."""
    return _json(request, {"audience": _offered(request).audience})


@_answering
async def mint(request: web.Request) -> web.Response:
    """Answer POST /_/oidc/mint-token: exchange an OIDC token for one that publishes.

    With `?repo=NAME` the token is for that repo alone. Clients that know no discovery send none: then it is for all
    repos whose entries fit.
    """
    minting = _offered(request)
    address = client_address(request)
    sent = await _token_sent(request)
    if sent.features is not None and not set(sent.features) <= set(_FEATURES):
        raise TokenRefusedError("unsupported-feature", f"Minted tokens offer {', '.join(_FEATURES)} alone.")
    with request.app[MINTS].one(site(address)):
        issued = await minting.mint(sent.token, address, _only(request))
    minted = issued.minted
    for repo, keys in sorted(minted.entries.items()):
        entries = ",".join(key.partition(":")[0] for key in keys)
        audit.write(
            request,
            Mint(repo=repo, subject=minted.subject, entry=entries, token=minted.jti, until=minted.expires),
        )
    return _json(request, {"success": True, "token": issued.token, "expires": int(minted.expires)})


@_answering
async def burn(request: web.Request) -> web.Response:
    """Answer POST /_/oidc/burn-token: end a minted token. The answer is the same for any other text."""
    minting = _offered(request)
    sent = await _token_sent(request)
    with request.app[MINTS].one(site(client_address(request))):
        burned = await minting.burn(sent.token)
    if burned is not None:
        for repo in sorted(burned.repos):
            audit.write(request, Burn(repo=repo, subject=burned.minted.subject, token=burned.minted.jti))
        if not burned.is_everywhere:
            raise UnavailableError("The token cannot be ended everywhere now; try again. It ends by itself, too.")
    return _json(request, {"message": "Accepted"}, status=202)


@_answering
async def discover(request: web.Request) -> web.Response:
    """Answer GET /.well-known/pytp?discover=PATH: where to exchange a token for uploads to that path (PEP 807).

    The answer is the same for repos that exist and others.
    """
    _offered(request)
    uploads = _UPLOADS.fullmatch(request.query.get("discover", ""))
    if uploads is None:
        raise NotFoundError("Tokens are minted for uploads to /repo/NAME/simple/ alone.")
    try:
        repo = parse_repo_name(uploads[1])
    except InvalidNameError:
        raise NotFoundError("Tokens are minted for uploads to /repo/NAME/simple/ alone.") from None
    base = f"https://{request.host}"
    return _json(
        request,
        {
            "audience-endpoint": f"{base}{AUDIENCE}",
            "token-mint-endpoint": f"{base}{MINT}?repo={repo}",
            "features": _FEATURES,
            "default-features": _FEATURES,
        },
    )


def _check_transport(request: web.Request) -> None:
    """Raise ForbiddenError for plain HTTP: anybody who reads a token on its way could publish with it."""
    if not is_secure(request):
        raise ForbiddenError("Tokens are exchanged over HTTPS alone. A proxy that ends TLS sends X-Forwarded-Proto.")


def _check_accepted(request: web.Request) -> None:
    given = [part.partition(";")[0].strip().lower() for part in request.headers.get("Accept", "").split(",")]
    if any(given) and not any(kind in _ACCEPTED for kind in given):
        raise NotAcceptableError(f"The answer is {_MEDIA_TYPE}.")


def _offered(request: web.Request) -> Minting:
    """Return the server's minting. Raises NotFoundError if it believes no issuer, so that clients do not try."""
    minting = request.app[MINTING]
    if minting.audience is None:
        raise NotFoundError("This server offers no trusted publishing.")
    return minting


def _only(request: web.Request) -> RepoName | None:
    """Return the repo that a token is asked for; None for all. An odd name is that of no repo."""
    name = request.query.get("repo")
    if name is None:
        return None
    try:
        return parse_repo_name(name)
    except InvalidNameError:
        return RepoName("")


async def _token_sent(request: web.Request) -> _TokenSent:
    """Read the body. Its Content-Type does not count: some clients send none.

    It is read before a slot is taken, so that slow bodies take none from others behind the same address.
    """
    raw = await read_body(request, _MAX_BODY_BYTES, _LONGEST_S)
    try:
        return msgspec.json.decode(raw, type=_TokenSent)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise TokenRefusedError("invalid-payload", 'The body is not {"token": "…"} with the token as text.') from None


def _json(request: web.Request, said: dict[str, object], status: int = 200) -> web.Response:
    accepted = request.headers.get("Accept")
    media_type = _MEDIA_TYPE if accepted is None or _MEDIA_TYPE in accepted else "application/json"
    return web.Response(
        status=status,
        body=msgspec.json.encode(said),
        content_type=media_type,
        headers={"Cache-Control": "no-store", "Vary": "Accept"},
    )
