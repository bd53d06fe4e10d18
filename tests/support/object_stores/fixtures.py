"""Fixtures: `s3`, `azure`, `gcs`: one running store of each kind for all tests of this process."""

import contextlib
from collections.abc import Iterator

import pytest

from support.cluster.build import VERSITYGW, BuildError, build
from support.object_stores.azurite import azurite_modules, running_azure
from support.object_stores.gcs_double import running_gcs
from support.object_stores.store import ObjectStore
from support.object_stores.versitygw import running_s3


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build or install the stores that tests need, which takes a minute or more, before any test's time is measured."""
    needed = {name for item in session.items for name in _names(item)}
    if "s3" in needed:
        with contextlib.suppress(BuildError):
            build(VERSITYGW)
    if "azure" in needed:
        with contextlib.suppress(pytest.skip.Exception):  # a test that needs it says why
            azurite_modules()


def _names(item: pytest.Item) -> set[str]:
    """Return the names of a test's fixtures, and those that are its parameters."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return {*getattr(item, "fixturenames", ()), *(value for value in parameters if isinstance(value, str))}


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A real S3 server."""
    with running_s3(tmp_path_factory.mktemp("s3") / "data") as store:
        yield store


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A real implementation of Azure Blob Storage."""
    with running_azure(tmp_path_factory.mktemp("azure") / "data") as store:
        yield store


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A double of Google Cloud Storage."""
    with running_gcs(tmp_path_factory.mktemp("gcs")) as store:
        yield store
