"""Names to reserve that are none, where a name becomes a path, a tag or a key. They may come from anybody's storage."""

import pytest

from pywharf.core.errors import NotFoundError
from pywharf.core.names import ProjectName
from pywharf.index.ports import Change, Reserve
from support.storage.storages import GITHUB
from support.storage.uploads import scanned

NAMES = ["no distribution", "../foo-1.0.tar.gz", "/foo-1.0.tar.gz", ".foo-1.0.tar.gz", "foo-1.0.egg", "\0.whl", ""]


@pytest.mark.parametrize("opened", ["file_system", GITHUB, "s3"], indirect=True)
async def test_what_is_no_name_of_a_file_cannot_be_reserved(backend, other):
    for name in NAMES:
        with pytest.raises(NotFoundError):
            await backend.change(Change(ProjectName("foo"), Reserve(name)))
    assert await scanned(other) == ([], [])
