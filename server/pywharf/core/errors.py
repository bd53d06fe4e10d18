"""The error tree. Each class carries the HTTP status and a stable code, so none is left unmapped."""

from typing import ClassVar, Self


class PywharfError(Exception):
    """Root of every error that a user may see; `str(error)` is one clear sentence without a secret."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"


class InvalidInputError(PywharfError):
    """What a client sent does not fit its specification."""

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
    """A file whose content is not the distribution that its name says."""

    code = "invalid-distribution"
    title = "Invalid distribution"


class InvalidUploadError(InvalidInputError):
    """An upload request whose form or digests do not fit."""

    code = "invalid-upload"
    title = "Invalid upload"


class InvalidConfigError(PywharfError):
    """A configuration, manifest or flag that cannot be used; the message names the field and the remedy."""

    status = 400
    code = "invalid-config"
    title = "Invalid configuration"


class IncompleteConfigError(InvalidConfigError):
    """A configuration of which a part has not arrived yet."""

    code = "incomplete-config"
    title = "Incomplete configuration"


class UnauthenticatedError(PywharfError):
    """No credentials, or wrong ones. Answered the same whether the repo exists or not."""

    status = 401
    code = "unauthenticated"
    title = "Authentication needed"


class ForbiddenError(PywharfError):
    """Right credentials that do not allow this."""

    status = 403
    code = "forbidden"
    title = "Not allowed"


class NotFoundError(PywharfError):
    """No such page, project or file."""

    status = 404
    code = "not-found"
    title = "Not found"


class MethodNotAllowedError(PywharfError):
    """An address that takes other methods."""

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
    """The repo holds other bytes of that name, or the same distribution under another; a published file never changes.

    The message begins `File already exists`, by which twine, uv and poetry know it.
    """

    status = 409
    code = "file-exists"
    title = "File already exists"

    @classmethod
    def of(cls, filename: str, double: str | None = None) -> Self:
        """Return the error for a name that is taken, or whose distribution lies there under the name `double`."""
        if double is None:
            return cls(f"File already exists: {filename} with other content. Publish a new version.")
        return cls(f"File already exists: {filename} is the same distribution as {double}. Publish a new version.")


class TooLargeError(PywharfError):
    """A body, form field or file over its limit."""

    status = 413
    code = "too-large"
    title = "Too large"


class RangeNotSatisfiableError(PywharfError):
    """A Range header that names no byte of the file (RFC 9110, section 14)."""

    status = 416
    code = "range-not-satisfiable"
    title = "Range not satisfiable"

    def __init__(self, detail: str, size: int) -> None:
        super().__init__(detail)
        self.size = size
        """Bytes that the file has."""


class UpstreamError(PywharfError):
    """The extra index answered something that cannot be used."""

    status = 502
    code = "upstream-error"
    title = "The extra index failed"


class UpstreamTimeoutError(UpstreamError):
    """The extra index did not answer in time."""

    status = 504
    code = "upstream-timeout"
    title = "The extra index did not answer in time"


class UnavailableError(PywharfError):
    """Cannot be answered now; the same request may succeed later."""

    status = 503
    code = "unavailable"
    title = "Not available now"
    retry_after_s: int = 2
    """When to try again."""


class BusyError(UnavailableError):
    """As much of this is under way as the server does at once."""

    code = "busy"
    title = "Too much at once"
    retry_after_s = 5


class IndexNotLoadedError(UnavailableError):
    """The repo's index has not been read yet, so nothing may be said about a name."""

    code = "index-not-loaded"
    title = "The index is not loaded"


class BackendUnavailableError(UnavailableError):
    """The storage cannot be reached or read."""

    code = "backend-unavailable"
    title = "The storage is not available"


class RateLimitedError(BackendUnavailableError):
    """The storage has been asked more often than it allows."""

    code = "rate-limited"
    title = "The storage's rate limit is used up"

    def __init__(self, detail: str, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class DataOwnedByOtherError(UnavailableError):
    """The stored packages are recorded as another resource's."""

    code = "data-owned-by-other"
    title = "The data belongs to another repo"


class IndexConflictError(UnavailableError):
    """Another writer replaced the index first (compare-and-swap)."""

    code = "index-conflict"
    title = "The index was changed by another writer"


class StorageFullError(PywharfError):
    """The storage has no room left; nothing of the upload was kept (RFC 4918, section 11.5)."""

    status = 507
    code = "storage-full"
    title = "The storage is full"
