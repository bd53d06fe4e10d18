"""Forms, and what goes wrong with the bodies that should be one."""

from aiohttp import web
from aiohttp.http import HttpProcessingError

from pywharf.core.errors import InvalidInputError

UNREADABLE_BODY = (web.RequestPayloadError, HttpProcessingError)
"""What reading any body raises that the client sent wrongly."""
UNREADABLE = (
    *UNREADABLE_BODY,
    ValueError,
    AssertionError,
    LookupError,
    RuntimeError,
)
"""What the framework's form readers raise on bodies that are none."""
_MAX_SHOWN = 200


def reason_of(error: BaseException) -> str:
    """Why a body cannot be read, in a line."""
    return " ".join(str(error).split())[:_MAX_SHOWN] or type(error).__name__


async def read_small_form(request: web.Request) -> dict[str, str | bytes]:
    """The fields and files of a form, in memory; of a repeated field the first. Raises InvalidInputError."""
    fields: dict[str, str | bytes] = {}
    try:
        for name, value in (await request.post()).items():
            if isinstance(value, web.FileField):
                with value.file as file:
                    fields.setdefault(name, file.read())
            else:
                fields.setdefault(name, value if isinstance(value, str) else bytes(value))
    except UNREADABLE as error:
        msg = f"The body is not a form that can be read: {reason_of(error)}."
        raise InvalidInputError(msg) from error
    return fields
