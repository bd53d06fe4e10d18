"""The error tree. Each class carries the HTTP status and a stable code, so none is left unmapped.

::

    PywharfError
    ├── BadRequestError
    ├── InvalidInputError
    │   ├── InvalidNameError
    │   ├── InvalidFilenameError
    │   ├── InvalidDistributionError
    │   └── InvalidUploadError
    ├── InvalidConfigError
    │   └── IncompleteConfigError
    ├── UnauthenticatedError
    ├── TooManyWrongSecretsError
    ├── ForbiddenError
    ├── WithheldError
    ├── TokenRefusedError
    ├── NotFoundError
    ├── MethodNotAllowedError
    ├── NotAcceptableError
    ├── FileExistsInRepoError
    ├── DigestDiffersError
    ├── TooLargeError
    ├── RangeNotSatisfiableError
    ├── UpstreamError
    │   ├── UpstreamTimeoutError
    │   ├── UpstreamUnreachableError
    │   ├── UpstreamAwayError
    │   └── WrongContentError
    ├── UnavailableError
    │   ├── BusyError
    │   ├── IndexNotLoadedError
    │   ├── AdvisoriesNotLoadedError
    │   ├── IdentityUnavailableError
    │   ├── BackendUnavailableError
    │   │   ├── RateLimitedError
    │   │   └── PreconditionsIgnoredError
    │   ├── DataOwnedByOtherError
    │   ├── IndexConflictError
    │   └── ChangeIncompleteError
    └── StorageFullError
        └── PinsFullError

A sentence that several modules raise is written once, here: by the class, if it has only that one, otherwise by a
class method that is named after the fault. All other sentences are written where they are raised.
"""

from typing import ClassVar, Final, Self

NO_CREDENTIALS: Final = "no-credentials"
"""The reason of a refusal for a client that sent none, or an empty password, which is no wrong secret."""


class PywharfError(Exception):
    """Root of every error that a user may see. `str(error)` is one clear sentence without a secret."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"


class BadRequestError(PywharfError):
    """A request that is not HTTP as the server can read it."""

    status = 400
    code = "bad-request"
    title = "Bad request"


class InvalidInputError(PywharfError):
    """Input of a client that does not conform to its specification."""

    status = 400
    code = "invalid-input"
    title = "Invalid input"


class InvalidNameError(InvalidInputError):
    """A project or repo name that no specification allows."""

    code = "invalid-name"
    title = "Invalid name"


class InvalidFilenameError(InvalidInputError):
    """A file name that is neither a wheel's nor an sdist's."""

    code = "invalid-filename"
    title = "Invalid file name"


class InvalidDistributionError(InvalidInputError):
    """A file whose content is not the distribution that it is named after."""

    code = "invalid-distribution"
    title = "Invalid distribution"

    @classmethod
    def too_many_members(cls, shown: str, most: int) -> Self:
        """Return the error for an archive named `shown` with more than `most` members."""
        return cls(f"{shown!r} has more than {most} members.")

    @classmethod
    def too_large_unpacked(cls, shown: str, most: int) -> Self:
        """Return the error for an archive that unpacks to more than `most` bytes."""
        return cls(f"{shown!r} unpacks to more than {most} bytes, too much for its size.")

    @classmethod
    def too_large_member(cls, shown: str, path: str, most: int) -> Self:
        """Return the error for a member that must be small and has more than `most` bytes."""
        return cls(f"{path[:200]!r} in {shown!r} is over {most} bytes.")

    @classmethod
    def special_member(cls, shown: str, path: str) -> Self:
        """Return the error for a device, a pipe or the like."""
        return cls(f"{shown!r} holds {path[:200]!r}, which is neither a file, a folder nor a link.")


class InvalidUploadError(InvalidInputError):
    """An upload request with an invalid form or wrong digests."""

    code = "invalid-upload"
    title = "Invalid upload"


class InvalidConfigError(PywharfError):
    """A configuration, manifest or flag that cannot be used. The message names the field and the remedy."""

    status = 400
    code = "invalid-config"
    title = "Invalid configuration"


class IncompleteConfigError(InvalidConfigError):
    """A configuration with a part that has not arrived yet."""

    code = "incomplete-config"
    title = "Incomplete configuration"


class UnauthenticatedError(PywharfError):
    """Missing or wrong credentials. The response is the same whether the repo exists or not."""

    status = 401
    code = "unauthenticated"
    title = "Authentication needed"

    def __init__(self, detail: str, reason: str = NO_CREDENTIALS, subject: str = "") -> None:
        """Say what is needed; `reason` says in a word what was wrong, for the audit alone and never for the client.

        `subject` is who the client is, if it proved that.
        """
        super().__init__(detail)
        self.reason = reason
        self.subject = subject

    @classmethod
    def wrong_secret(cls, reason: str = "wrong-secret", subject: str = "") -> Self:
        """Return the error for wrong credentials. It does not tell whether the repo exists, nor the reason."""
        return cls("The repo's name or the secret is wrong.", reason, subject)


class TooManyWrongSecretsError(PywharfError):
    """One wrong secret too many of a client's address. A right one is always accepted."""

    status = 429
    code = "too-many-wrong-secrets"
    title = "Too many wrong secrets"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("The secret is wrong, and too many wrong ones came from your address; correct it.")
        self.retry_after_s = retry_after_s


class ForbiddenError(PywharfError):
    """Valid credentials that do not allow the request."""

    status = 403
    code = "forbidden"
    title = "Not allowed"


class WithheldError(PywharfError):
    """A file that a policy withholds. The repo holds it, and may show it later.

    pip prints the reason phrase, which is the beginning of the message, so what has a bounded length stands first.
    """

    status = 403
    code = "withheld"
    title = "Refused by policy"

    def __init__(self, *, policy: str, rule: str, reason: str, until: str | None) -> None:
        """Say which rule of which policy withholds the file, until when (None: without end), and why."""
        end = f" until {until}" if until is not None else ""
        why = f": {reason}" if reason else "."
        super().__init__(f"Withheld{end} by {rule} of the policy {policy}{why}")
        self.policy = policy
        self.rule = rule
        self.reason = reason
        self.until = until
        """RFC 3339, in whole seconds."""


class TokenRefusedError(PywharfError):
    """An OIDC token for which no token of this server is minted."""

    status = 422
    code = "token-refused"
    title = "Token request failed"

    def __init__(self, kind: str, description: str, *, reason: str = "", subject: str = "") -> None:
        """Say what to check; `reason` and `subject` are for the audit alone and never for the client."""
        super().__init__(description)
        self.kind = kind
        """A word for programs, as PyPI's `invalid-publisher`."""
        self.reason = reason or kind
        self.subject = subject

    def because(self, reason: str, subject: str = "") -> Self:
        """Return the same error for the client, with another reason for the audit."""
        return type(self)(self.kind, str(self), reason=reason, subject=subject)


class NotFoundError(PywharfError):
    """A page, project or file that does not exist."""

    status = 404
    code = "not-found"
    title = "Not found"

    @classmethod
    def no_project(cls, name: str) -> Self:
        """Return the error for a project that the repo does not have, or that the client must not see."""
        return cls(f"This repo has no project {name!r}.")

    @classmethod
    def no_file(cls, filename: str, name: str) -> Self:
        """Return the error for a file that the repo does not have, or that the client must not see."""
        return cls(f"This repo has no file {filename[:240]!r} of the project {name!r}.")

    @classmethod
    def file_removed(cls, filename: str) -> Self:
        """Return the error for a file that the index names and the storage lacks."""
        return cls(f"The file {filename!r} is no longer in the storage.")

    @classmethod
    def no_core_metadata(cls, filename: str) -> Self:
        """Return the error for a file whose core metadata the index names and the storage lacks."""
        return cls(f"The storage holds no core metadata of {filename!r}.")


class MethodNotAllowedError(PywharfError):
    """A request method that the URL does not support."""

    status = 405
    code = "method-not-allowed"
    title = "Method not allowed"

    def __init__(self, detail: str, allowed: frozenset[str]) -> None:
        super().__init__(detail)
        self.allowed = allowed


class NotAcceptableError(PywharfError):
    """No format of this resource satisfies the request's Accept header."""

    status = 406
    code = "not-acceptable"
    title = "Not acceptable"


class FileExistsInRepoError(PywharfError):
    """The repo holds this name with other content, held it once, or holds the distribution under another name.

    A published file never changes. The message begins `File already exists`, by which twine, uv and poetry identify it.
    """

    status = 409
    code = "file-exists"
    title = "File already exists"

    def __init__(self, filename: str, double: str | None = None, *, is_deleted: bool = False) -> None:
        """Say that the name is taken, that its distribution is stored as `double`, or that it was deleted."""
        other = "with other content" if double is None else f"is the same distribution as {double}"
        if is_deleted:
            other = "was deleted, and its name stays taken" if double is None else f"{other}, which was deleted"
        super().__init__(f"File already exists: {filename} {other}. Publish a new version.")


class DigestDiffersError(PywharfError):
    """A file to pin whose content is not the one that the client names."""

    status = 409
    code = "digest-differs"
    title = "The digest differs"

    def __init__(self, filename: str, wanted: str, found: str) -> None:
        super().__init__(
            f"{filename[:240]} has the SHA-256 {found} here, not {wanted}. Do not install it before you know why: "
            "make the lock anew through this repo, or ask where the other content came from."
        )


class TooLargeError(PywharfError):
    """A body, form field or file over its limit."""

    status = 413
    code = "too-large"
    title = "Too large"

    @classmethod
    def too_many_fields(cls, most: int) -> Self:
        """Return the error for a form with more than `most` fields."""
        return cls(f"The form has more than {most} fields.")


class RangeNotSatisfiableError(PywharfError):
    """A Range header that names no byte of the file (RFC 9110, section 14)."""

    status = 416
    code = "range-not-satisfiable"
    title = "Range not satisfiable"

    def __init__(self, detail: str, size: int) -> None:
        super().__init__(detail)
        self.size = size
        """Size of the file in bytes."""


class UpstreamError(PywharfError):
    """The extra index sent a response that cannot be used."""

    status = 502
    code = "upstream-error"
    title = "The extra index failed"


class UpstreamTimeoutError(UpstreamError):
    """The extra index did not answer in time."""

    status = 504
    code = "upstream-timeout"
    title = "The extra index did not answer in time"


class UpstreamUnreachableError(UpstreamError):
    """No connection to the extra index could be made, or it broke."""

    code = "upstream-unreachable"
    title = "The extra index cannot be reached"


class UpstreamAwayError(UpstreamError):
    """An index does not answer, and the cache does not hold the page or the file."""

    status = 504
    code = "upstream-away"
    title = "The upstream index is away"

    def __init__(self, project: str, filename: str | None = None) -> None:
        """Say that the page of a project is not there, or one of its files."""
        lacks = (
            f"holds no page of {project!r} that is recent enough. This says nothing about whether the project exists"
            if filename is None
            else f"does not hold {filename!r}"
        )
        super().__init__(f"The upstream index does not answer, and the cache {lacks}; try again later.")


class WrongContentError(UpstreamError):
    """An upstream index sent a file whose size or digest is not what its page says. Nothing of it is kept."""

    code = "upstream-wrong-content"
    title = "The upstream index sent wrong content"


class UnavailableError(PywharfError):
    """The request cannot be answered now; the same request may succeed later."""

    status = 503
    code = "unavailable"
    title = "Not available now"
    retry_after_s: int = 2
    """Seconds until a retry."""


class BusyError(UnavailableError):
    """The server already runs as many requests of this kind as it may run concurrently."""

    code = "busy"
    title = "Too much at once"
    retry_after_s = 5


class IndexNotLoadedError(UnavailableError):
    """The repo's index has not been read yet, so the server does not know which names exist."""

    code = "index-not-loaded"
    title = "The index is not loaded"


class AdvisoriesNotLoadedError(UnavailableError):
    """The server has not read its feed of advisories yet, or has none, so it does not know what is malware."""

    code = "advisories-not-loaded"
    title = "The advisories are not loaded"
    retry_after_s = 10

    def __init__(self, *, has_feed: bool) -> None:
        super().__init__(
            "The feed of advisories has not been read yet; try again in some seconds, or see the server's log."
            if has_feed
            else "A policy blocks malware, and this server has no feed of advisories; start it with --advisories."
        )


class IdentityUnavailableError(UnavailableError):
    """A token that cannot be verified now: its issuer's keys, or the API server, cannot be reached."""

    code = "identity-unavailable"
    title = "Identities cannot be verified now"
    retry_after_s = 10

    def __init__(self) -> None:
        super().__init__("Your token cannot be verified now; try again in some seconds. The server's log says why.")


class BackendUnavailableError(UnavailableError):
    """The storage cannot be reached or read."""

    code = "backend-unavailable"
    title = "The storage is not available"


class RateLimitedError(BackendUnavailableError):
    """More requests were sent to the storage than it allows."""

    code = "rate-limited"
    title = "The storage's rate limit is used up"

    def __init__(self, detail: str, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class PreconditionsIgnoredError(BackendUnavailableError):
    """An object store that lacks what concurrent servers rely on, so that one could overwrite another's files."""

    code = "preconditions-ignored"
    title = "The store ignores preconditions"
    retry_after_s = 60

    def __init__(self, what: str) -> None:
        """Say what the store does, as the rest of a sentence."""
        super().__init__(
            f"The store {what}, so servers could overwrite each other's files. Use a store with conditional writes; "
            "docs/object-stores.md lists some."
        )


class DataOwnedByOtherError(UnavailableError):
    """The stored packages are recorded as belonging to another resource."""

    code = "data-owned-by-other"
    title = "The data belongs to another repo"


class IndexConflictError(UnavailableError):
    """Another writer replaced the index first (compare-and-swap)."""

    code = "index-conflict"
    title = "The index was changed by another writer"

    def __init__(self) -> None:
        super().__init__("The index was replaced by another writer; run update_index again.")


class ChangeIncompleteError(UnavailableError):
    """A change of several files that failed after some of them. Repeating it completes the rest."""

    code = "change-incomplete"
    title = "Not all files are changed"

    def __init__(self, cause: PywharfError, changed: tuple[str, ...]) -> None:
        """Say why the change failed, and how many files it reached before."""
        super().__init__(f"{len(changed)} files are changed, then this failed: {cause} Repeat the call for the rest.")
        self.changed = changed
        """The names of the files that are changed."""
        if isinstance(cause, UnavailableError):
            self.retry_after_s = cause.retry_after_s


class StorageFullError(PywharfError):
    """The storage has no room left; nothing of the upload was kept (RFC 4918, section 11.5)."""

    status = 507
    code = "storage-full"
    title = "The storage is full"


class PinsFullError(StorageFullError):
    """A pin that would let one repo, or all of them together, occupy too much of the cache that all repos share."""

    code = "too-much-pinned"
    title = "Too much is pinned"
