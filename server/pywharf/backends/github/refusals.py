"""Map what GitHub refuses to the errors of this project: one table, by the step that is refused. Pure.

The first row of a step whose condition the answer meets gives the error. A rate limit comes before all rows. A sentence
may name these parts:

| part | text |
|---|---|
| `{status}`, `{message}` | of the answer |
| `{line}` | the message on one line, without its full stop |
| `{said}` | the message, or the status if there is none |
| `{reason}` | the message, or `status N` |
| `{because}` | the message in parentheses after a space, or nothing |
| any other | what the caller gives |
"""

import enum
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from pywharf.backends.github.answer import Answer
from pywharf.core.errors import (
    BackendUnavailableError,
    FileExistsInRepoError,
    ForbiddenError,
    IndexConflictError,
    InvalidConfigError,
    InvalidUploadError,
    NotFoundError,
    PywharfError,
    RateLimitedError,
    UnauthenticatedError,
)

_USABLE = frozenset({200, 201, 204, 206, 302, 304})
CALLER_STATUSES = frozenset({404, 409, 422})
"""Statuses that say something about the requested object, so that the caller maps them by a step of its own."""
_LIMITED = re.compile(r"rate limit|abuse detection|submitted too quickly|login attempts|try again later", re.IGNORECASE)
_DEFAULT_WAIT_S = 60
"""Seconds to wait if GitHub gives no time for a rate limit. Its documentation asks for at least a minute."""
_LONGEST_WAIT_S = 24 * 3600
_RACE = re.compile(r"\bbut expected\b|\bdoes not match\b|\bwasn't supplied\b")
"""GitHub's messages if another commit came first. It answers violated branch rules with the same statuses."""
REDIRECTED: Final = (
    "GitHub redirects: the repository has another name now, or the API another address. "
    "Set owner, repo and api_url to them."
)


class Step(enum.Enum):
    """A step that GitHub may refuse."""

    SERVERS_CALL = enum.auto()
    """Any call with the server's token."""
    CLIENTS_CALL = enum.auto()
    """Any call with a client's own token: that client gets the error."""
    FETCH_TOKEN = enum.auto()
    """Fetch the hourly token of an App."""
    QUERY = enum.auto()
    LIST_RELEASES = enum.auto()
    FIND_FILE = enum.auto()
    PUBLISH = enum.auto()
    CHANGE = enum.auto()
    """Change a release: yank or delete its file."""
    WRITE_INDEX = enum.auto()
    WRITE_CHANGES = enum.auto()
    SHOW_REPOSITORY = enum.auto()
    PREPARE_REPOSITORY = enum.auto()
    """An action of `github.init_pkg_repo`."""


_Condition = Callable[[Answer], bool]
_Error = Callable[[Answer, Mapping[str, str]], PywharfError]


def _status(*statuses: int) -> _Condition:
    return lambda answer: answer.status in statuses


def _any(_answer: Answer) -> bool:
    return True


def _exists(answer: Answer) -> bool:
    return "already_exists" in answer.codes


def _is_empty(answer: Answer) -> bool:
    return "empty" in answer.message.lower()


def _is_race(answer: Answer) -> bool:
    return _RACE.search(answer.message) is not None


def _says(kind: Callable[[str], PywharfError], sentence: str) -> _Error:
    def error(answer: Answer, names: Mapping[str, str]) -> PywharfError:
        message = answer.message
        parts = {
            "status": str(answer.status),
            "message": message,
            "line": " ".join(message.split()).rstrip("."),
            "said": message or str(answer.status),
            "reason": message or f"status {answer.status}",
            "because": f" ({message})" if message else "",
        }
        return kind(sentence.format_map({**parts, **names}))

    return error


def _unavailable(sentence: str) -> _Error:
    return _says(BackendUnavailableError, sentence)


_TABLE: Final[Mapping[Step, tuple[tuple[_Condition, _Error], ...]]] = {
    Step.SERVERS_CALL: (
        (_status(301, 307, 308), _unavailable(REDIRECTED)),
        (_status(401), _unavailable("GitHub refuses the server's token: it is wrong, expired or revoked.")),
        (_status(403), _unavailable("GitHub does not allow this with the server's token{because}.")),
        (_any, _unavailable("GitHub answers {status}{because}; try again.")),
    ),
    Step.CLIENTS_CALL: (
        (_status(301, 307, 308), _unavailable(REDIRECTED)),
        (
            _status(401),
            _says(UnauthenticatedError, "GitHub does not know this token; it is wrong, expired or revoked."),
        ),
        (_status(403), _says(ForbiddenError, "GitHub does not allow this with your token{because}.")),
        (_any, _unavailable("GitHub answers {status}{because}; try again.")),
    ),
    Step.FETCH_TOKEN: (
        (
            _any,
            _unavailable("GitHub gives the App's installation no token (status {status}); check its ids and its key."),
        ),
    ),
    Step.QUERY: ((_any, _unavailable("GitHub answers a query with {said}; check owner, repo and the token.")),),
    Step.LIST_RELEASES: (
        (
            _any,
            _unavailable(
                "GitHub shows no repository {repository} to the server's token (status {status}); check owner, repo "
                "and what the token may read."
            ),
        ),
    ),
    Step.FIND_FILE: (
        (_status(404), _says(NotFoundError, "The file is no longer in the storage.")),
        (_any, _unavailable("GitHub names no address of the file (status {status}); try again.")),
    ),
    Step.PUBLISH: (
        (_exists, lambda _answer, names: FileExistsInRepoError(names["tag"])),
        # GitHub answers 404 also for what a token may not write.
        (_status(404), _says(ForbiddenError, "This token may not publish in the GitHub repository ({reason}).")),
        (_is_empty, _unavailable("The GitHub repository is empty: a release needs a first commit to point at.")),
        (_any, _says(InvalidUploadError, "GitHub does not take {tag!r}: {reason}.")),
    ),
    Step.CHANGE: (
        # GitHub answers 404 also for what a token may not write.
        (
            _status(404),
            _says(ForbiddenError, "This token may not change releases of the GitHub repository ({reason})."),
        ),
        (_any, _unavailable("GitHub does not change the release {tag!r}: {line}; try again.")),
    ),
    Step.WRITE_CHANGES: (
        (_status(404), _says(ForbiddenError, "The branch {branch!r} is not there, or this token may not write to it.")),
        (_is_race, lambda _answer, _names: IndexConflictError()),
        (
            _any,
            _unavailable(
                "GitHub does not take the change into the branch {branch!r}: {line}. Where a rule protects the branch, "
                "let the token or App pass it by, or name another branch."
            ),
        ),
    ),
    Step.WRITE_INDEX: (
        (
            _status(404),
            _unavailable("The branch {branch!r} is not there, or the server's token may not write to it."),
        ),
        (_is_race, lambda _answer, _names: IndexConflictError()),
        (
            _any,
            _unavailable(
                "GitHub does not take the index into the branch {branch!r}: {line}. Where a rule protects the branch, "
                "let the server's token or App pass it by, or name another branch."
            ),
        ),
    ),
    Step.SHOW_REPOSITORY: (
        (_any, _says(InvalidConfigError, "GitHub does not tell of the repository (status {status}, {message}).")),
    ),
    Step.PREPARE_REPOSITORY: (
        # GitHub answers 404 also for what a token may not see.
        (_status(404), _says(ForbiddenError, "GitHub answers 404: not there, or not for your token.")),
        (_any, _says(InvalidConfigError, "{action}: GitHub refuses it (status {status}, {message}). {remedy}")),
    ),
}


def refusal(step: Step, answer: Answer, **names: str) -> PywharfError:
    """Return the error for an answer that the step cannot use. `names` are parts of the step's sentences."""
    error = next(error for meets, error in _TABLE[step] if meets(answer))
    return error(answer, names)


def refusal_of_call(answer: Answer, now: float, *, is_clients: bool) -> PywharfError | None:
    """Return the error for an answer that no caller can use; otherwise None. `now` is in Unix seconds.

    `is_clients`: the call was made with a client's own token.
    """
    if answer.status in _USABLE or answer.status in CALLER_STATUSES:
        return None
    if _is_limit(answer):
        return limited(_wait_s(answer.headers, now))
    return refusal(Step.CLIENTS_CALL if is_clients else Step.SERVERS_CALL, answer)


def limited(seconds: int) -> RateLimitedError:
    """Return the error for a rate limit of that many seconds."""
    return RateLimitedError(f"GitHub's rate limit is used up; try again in {seconds} seconds.", seconds)


def unreachable(error: Exception) -> BackendUnavailableError:
    """Return the error for a connection that fails. It names the cause's type only: its text may show what was sent."""
    return BackendUnavailableError(f"GitHub cannot be reached, or broke off ({type(error).__name__}); try again.")


def _is_limit(answer: Answer) -> bool:
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS or "RATE_LIMITED" in answer.types:
        return True
    is_exhausted = answer.headers.get("x-ratelimit-remaining") == "0"
    is_said = is_exhausted or "retry-after" in answer.headers or _LIMITED.search(answer.message) is not None
    return answer.status == HTTPStatus.FORBIDDEN and is_said


def _wait_s(headers: Mapping[str, str], now: float) -> int:
    """Return the seconds to wait: Retry-After, otherwise the time until the limit resets, otherwise a minute."""
    for name, since in (("retry-after", 0.0), ("x-ratelimit-reset", now)):
        if name == "x-ratelimit-reset" and headers.get("x-ratelimit-remaining") != "0":
            continue
        try:
            wait = int(float(headers[name]) - since) + (1 if since else 0)
        except (KeyError, ValueError, OverflowError):
            continue
        return min(max(wait, 1), _LONGEST_WAIT_S)
    return _DEFAULT_WAIT_S
