"""What all unit tests need: digests of configurations that cost nothing."""

from collections.abc import Iterator

import pytest

from pywharf.config import repo_config


@pytest.fixture(scope="module", autouse=True)
def cheap_digests() -> Iterator[None]:
    """Let `config_digest` take microseconds: it is slow on purpose, and hundreds of tests compute it.

    The tests of other folders, which the same process may run, compare real digests with those of servers.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repo_config, "DIGEST_ROUNDS", 1)
        yield
