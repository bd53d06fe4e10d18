"""Try out whether a store keeps the promises that the backend relies on; several ignore preconditions silently."""

import contextlib
import uuid

from pywharf.backends.object_store.client import (
    ObjectChangedError,
    ObjectClient,
    ObjectExistsError,
    ObjectMissingError,
    Version,
)
from pywharf.core.errors import BackendUnavailableError, PreconditionsIgnoredError


async def try_preconditions(client: ObjectClient, folder: str) -> None:
    """Write, compare, copy and list a few objects in the folder, and remove them.

    Raises PreconditionsIgnoredError, or BackendUnavailableError if that cannot be known now.
    """
    folder = f"{folder}/probe-{uuid.uuid4().hex}"
    first, second = f"{folder}/1", f"{folder}/2"
    try:
        made = await client.create(first, b"one")
        await _creates_once(client, first)
        await _replaces_what_is_expected(client, first, made)
        await _copies_once(client, first, second)
        await _lists_after(client, folder, first, second)
    except ObjectMissingError as error:
        raise PreconditionsIgnoredError("does not find an object that it has just stored") from error
    finally:
        # Otherwise they are removed with other leftovers after a day.
        with contextlib.suppress(BackendUnavailableError):
            await client.delete([first, second])


async def _creates_once(client: ObjectClient, key: str) -> None:
    try:
        await client.create(key, b"two")
    except (ObjectExistsError, ObjectChangedError):
        return
    raise PreconditionsIgnoredError("replaces an object that is only to be created (If-None-Match)")


async def _replaces_what_is_expected(client: ObjectClient, key: str, made: Version) -> None:
    try:
        replaced = await client.replace(key, b"three", made)
    except ObjectChangedError as error:
        raise PreconditionsIgnoredError("does not replace an object of the version that it has (If-Match)") from error
    try:
        await client.replace(key, b"four", made)
    except ObjectChangedError:
        pass
    else:
        raise PreconditionsIgnoredError("replaces an object that has changed since it was read (If-Match)")
    if await client.get_if_changed(key, replaced, 100) is not None:
        raise PreconditionsIgnoredError("sends an object that has not changed (If-None-Match of a GET)")


async def _copies_once(client: ObjectClient, source: str, target: str) -> None:
    await client.copy_new(source, target)
    try:
        await client.copy_new(source, target)
    except (ObjectExistsError, ObjectChangedError):
        return
    raise PreconditionsIgnoredError(
        "replaces an object with a copy that is only to be created (If-None-Match of CompleteMultipartUpload)"
    )


async def _lists_after(client: ObjectClient, folder: str, first: str, second: str) -> None:
    whole = [stat.key async for page in client.pages(folder) for stat in page]
    rest = [stat.key async for page in client.pages(folder, first) for stat in page]
    if whole != [first, second] or rest != [second]:
        raise PreconditionsIgnoredError("does not list all objects that it has just stored, or not from a key on")
