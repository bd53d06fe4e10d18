"""The pull-through cache as a worker opens it."""

from pathlib import Path

import pytest

from pywharf.cli.opened_cache import opened_cache
from pywharf.config.settings import ServerSettings
from pywharf.core.errors import InvalidConfigError
from pywharf.egress.policy import Egress
from pywharf.egress.upstream_client import UpstreamClient
from pywharf.index.upstream.health import SourceHealth
from pywharf.serving.cache_file import read_cache_config
from pywharf.serving.in_flight import RunningRequests
from pywharf.serving.metrics import Metrics
from support.storage.caches import keep
from support.waiting import until


def settings(root: Path, config: str | None) -> ServerSettings:
    path = root / "cache.toml"
    if config is not None:
        path.write_text(config)
    return ServerSettings(root=str(root), cache_config=None if config is None else str(path))


async def test_a_server_without_the_flag_has_no_cache(tmp_path):
    metrics = Metrics()
    async with (
        UpstreamClient(metrics.count_upstream, "test", Egress()) as client,
        opened_cache(
            settings(tmp_path, None), client, SourceHealth(), metrics, "test", running=RunningRequests()
        ) as cache,
    ):
        assert cache is None
    assert list(tmp_path.iterdir()) == []


async def test_a_cache_is_kept_within_its_bounds_from_the_start(tmp_path):
    """Without `folder` it lies in ROOT, apart from the repos' packages; closing it leaves no spool folder behind."""
    metrics = Metrics()
    config = settings(tmp_path, 'type = "file_system"\nmax_bytes = 5000\nkeep_pages = 60\n')
    for opening in range(2):
        async with (
            UpstreamClient(metrics.count_upstream, "test", Egress()) as client,
            opened_cache(config, client, SourceHealth(), metrics, "test", running=RunningRequests()) as cache,
        ):
            assert cache is not None
            assert (cache.max_bytes, cache.keep_pages_s) == (5000, 60.0)
            await until(lambda: b"pywharf_cache_kept_bytes{" in metrics.render(), "the first check")
            await keep(cache.store, bytes([opening]) * 4000)
    assert (tmp_path / "upstream-cache" / "files").is_dir()
    assert not (tmp_path / "cache").exists()
    assert list((tmp_path / "upstream-cache" / "spool").iterdir()) == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('type = "disk"', "type is 'disk'"),
        ('type = "file_system"\nfolder = "FOLDER/cache/x"', "a folder of its own"),
    ],
)
async def test_a_wrong_configuration_stops_the_start(tmp_path, config, said):
    metrics = Metrics()
    given = settings(tmp_path, config.replace("FOLDER", str(tmp_path)))
    with pytest.raises(InvalidConfigError, match=said):
        async with (
            UpstreamClient(metrics.count_upstream, "test", Egress()) as client,
            opened_cache(given, client, SourceHealth(), metrics, "test", running=RunningRequests()),
        ):
            raise AssertionError


def test_the_secret_is_read_with_the_configuration(tmp_path, monkeypatch):
    path = tmp_path / "cache.toml"
    path.write_text('type = "s3"\nbucket = "wheels"\nsecret = {env = "CACHE_SECRET"}\n')
    with pytest.raises(InvalidConfigError, match="CACHE_SECRET is empty or not set"):
        read_cache_config(str(path))
    monkeypatch.setenv("CACHE_SECRET", "hush\n")
    assert read_cache_config(str(path))[1] == "hush"
    path.write_text('type = "s3"\nbucket = "wheels"\nambient_identity = true\n')
    assert read_cache_config(str(path))[1] is None
    with pytest.raises(InvalidConfigError, match=r"--cache_config: the file .* cannot be read"):
        read_cache_config(str(tmp_path / "missing"))
