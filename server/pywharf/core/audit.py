"""PURE. What the audit log says: each write, refusal, login and minted token, in one schema.

No event holds a secret or a token, and every text is bounded and printable once it is a line.
docs/audit.md has the schema; a change of a field's name or meaning needs another `SCHEMA`.
"""

from datetime import UTC, datetime
from typing import ClassVar, Final, Literal

import msgspec

from pywharf.core.log_text import log_text

SCHEMA: Final = "pywharf.audit/1"
"""The version of the schema, in each line. A collector may also find the lines by it."""

Kind = Literal["publish", "change", "refusal", "login", "logout", "mint", "burn"]
Result = Literal["done", "incomplete", "refused"]

MAX_FILES: Final = 20
"""Names of files in a line."""
MAX_TEXT: Final = 300
_MAX_SUBJECT: Final = 512
_MAX_ID: Final = 128


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    kind: ClassVar[Kind]
    result: ClassVar[Result] = "done"
    repo: str | None = None
    subject: str | None = None
    """Who did it. None: the repo's own secret was sent, or a secret that its storage knows."""
    entry: str | None = None
    """Names of the access entries that allowed it, separated by commas."""


class Publish(_Event, frozen=True, kw_only=True):
    """A file was published. The same bytes published again count, too."""

    kind = "publish"
    project: str
    filename: str
    sha256: str


class Change(_Event, frozen=True, kw_only=True):
    """Files or a project were changed by the JSON API."""

    kind = "change"
    action: str
    """`yank`, `unyank`, `delete`, `status`, `pin` or `unpin`."""
    project: str
    files: tuple[str, ...] = ()
    status: str | None = None
    """The project's new status."""
    reason: str | None = None
    """The client's."""
    is_complete: bool = True
    """Whether all files that the request named are changed."""


class Refusal(_Event, frozen=True, kw_only=True):
    """A request was refused. The reason stands here alone where the answer must not give it."""

    kind = "refusal"
    result = "refused"
    status: int
    """Of the answer."""
    reason: str
    project: str | None = None
    filename: str | None = None
    suppressed: int = 0
    """Refusals of the same address that have no line, since the one before."""


class _SignIn(_Event, frozen=True, kw_only=True):
    suppressed: int = 0
    """Sign-ins and sign-outs of the same address that have no line, since the one before."""


class Login(_SignIn, frozen=True, kw_only=True):
    """A browser signed in."""

    kind = "login"


class Logout(_SignIn, frozen=True, kw_only=True):
    """A browser signed out."""

    kind = "logout"


class Mint(_Event, frozen=True, kw_only=True):
    """A token was minted for trusted publishing. A token for several repos has an event for each."""

    kind = "mint"
    token: str
    """The id (`jti`) of the minted token, which is no secret."""
    until: float
    """Unix seconds at which it expires."""


class Burn(_Event, frozen=True, kw_only=True):
    """A minted token was given up before it expired."""

    kind = "burn"
    token: str
    """Its id."""


Event = Publish | Change | Refusal | Login | Logout | Mint | Burn


class Origin(msgspec.Struct, frozen=True):
    """Where a request came from. None: unknown."""

    address: str | None = None
    request_id: str | None = None


class Line(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One line of the audit log. Fields that do not apply are left out."""

    schema: str
    time: str
    """RFC 3339, UTC, in milliseconds."""
    event: Kind
    result: Result
    repo: str | None = None
    project: str | None = None
    action: str | None = None
    files: tuple[str, ...] = ()
    """The first `MAX_FILES`."""
    file_count: int | None = None
    """How many there are, if `files` does not have all."""
    sha256: str | None = None
    entry: str | None = None
    subject: str | None = None
    address: str | None = None
    request_id: str | None = None
    status: int | str | None = None
    """Of a refusal the answer's status, of a change the project's."""
    reason: str | None = None
    token: str | None = None
    until: str | None = None
    suppressed: int = 0


def line_of(event: Event, origin: Origin, now: datetime) -> Line:
    """Return the line about an event. `now` has a time zone."""
    files: tuple[str, ...] = ()
    sha256 = token = until = action = reason = None
    status: int | str | None = None
    result = event.result
    match event:
        case Publish():
            files, sha256 = (event.filename,), event.sha256
        case Change():
            files, action, reason, status = event.files, event.action, event.reason, event.status
            result = "done" if event.is_complete else "incomplete"
        case Refusal():
            files = () if event.filename is None else (event.filename,)
            status, reason = event.status, event.reason
        case Mint():
            token, until = event.token, _time(datetime.fromtimestamp(event.until, UTC))
        case Burn():
            token = event.token
        case Login() | Logout():
            pass
    return Line(
        schema=SCHEMA,
        time=_time(now.astimezone(UTC)),
        event=event.kind,
        result=result,
        repo=_text(event.repo),
        project=_text(getattr(event, "project", None)),
        action=action,
        files=tuple(log_text(name, MAX_TEXT) for name in files[:MAX_FILES]),
        file_count=len(files) if len(files) > MAX_FILES else None,
        sha256=sha256,
        entry=_text(event.entry),
        subject=_text(event.subject, _MAX_SUBJECT),
        address=_text(origin.address),
        request_id=_text(origin.request_id, _MAX_ID),
        status=_text(status) if isinstance(status, str) else status,
        reason=_text(reason),
        token=_text(token, _MAX_ID),
        until=until,
        suppressed=getattr(event, "suppressed", 0),
    )


def _text(text: str | None, most: int = MAX_TEXT) -> str | None:
    return log_text(text, most) if text else None


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
