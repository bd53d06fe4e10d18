"""Fixtures: `s3`, `azure`, `gcs`: one running store of each kind for all tests of this process."""

import contextlib
from collections.abc import Iterator

import pytest

from support.cluster.build import VERSITYGW, BuildError, build
from support.object_stores.azurite import running_azure
from support.object_stores.gcs_double import running_gcs
from support.object_stores.store import ObjectStore
from support.object_stores.versitygw import running_s3


def pytest_collection_finish(session: pytest.Session) -> None:
    """Run the first build, which takes minutes, before any test's time is measured."""
    if any("s3" in getattr(item, "fixturenames", ()) for item in session.items):
        with contextlib.suppress(BuildError):
            build(VERSITYGW)


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
