"""Check a configuration whose secrets arrive in parts, in any order: either all of it is applied, or nothing."""

import asyncio
import gzip
import itertools

import pytest

from pywharf.backends.opening import spec_types
from pywharf.config.repo_config import config_digest
from pywharf.core.errors import IncompleteConfigError, InvalidConfigError
from pywharf.serving import config_source
from pywharf.serving.config_source import ConfigGiven, ConfigSource, watch
from pywharf.serving.definitions import LoadedConfig
from pywharf.serving.metrics import Metrics
from support.operator.mounted_volume import ProjectedVolume

SHARDS = range(3)
CONFIG = '[a]\ntype = "memory"\n'


@pytest.fixture
def volume(tmp_path):
    return ProjectedVolume(tmp_path / "volume")


@pytest.fixture
def source(volume):
    config, admin_secret = (f"{volume.folder}/{name}.toml" for name in ("config", "admin_secret"))
    return ConfigSource(ConfigGiven(config=config, admin_secret=admin_secret), spec_types())


def config(volume: ProjectedVolume, state: str) -> str:
    files = [f"{volume.folder}/credentials/revision-{shard}" for shard in SHARDS]
    tables = (
        f'[team-{shard}]\ntype = "memory"\nread_secret = {{file = "{volume.folder}/credentials/team-{shard}.read"}}\n'
        for shard in SHARDS
    )
    return f'credentials_revision = "{state}"\ncredentials_revision_file = {files}\n{"".join(tables)}'


def delivered(volume: ProjectedVolume, of_config: str, of_shards: tuple[str, ...]) -> None:
    """Deliver the ConfigMap and each shard's Secret to the volume, each in the given state ("": missing)."""
    files = {"config.toml": config(volume, of_config), "admin_secret.toml": ""}
    for shard, state in enumerate(of_shards):
        if state:
            files[f"credentials/revision-{shard}"] = state
            files[f"credentials/team-{shard}.read"] = f"{state}-{shard}"
    volume.deliver(files)


def secrets(loaded: LoadedConfig) -> list[str | None]:
    return [definition.credentials.read for definition in loaded.repos.values()]


def all_of(state: str) -> list[str | None]:
    return [f"{state}-{shard}" for shard in SHARDS]


@pytest.mark.parametrize("of_config", ["old", "new"])
@pytest.mark.parametrize("of_shards", list(itertools.product(["old", "new", ""], repeat=3)), ids="-".join)
def test_no_mixed_set_is_ever_taken(volume, source, of_config, of_shards):
    delivered(volume, of_config, of_shards)
    if set(of_shards) == {of_config}:
        assert secrets(source.load()) == all_of(of_config)
    else:
        with pytest.raises(IncompleteConfigError, match="as soon as"):
            source.load()
        delivered(volume, of_config, (of_config,) * 3)
        assert source.changed()
        assert secrets(source.load()) == all_of(of_config)


@pytest.mark.parametrize("first", ["old", ""])
@pytest.mark.parametrize("order", list(itertools.permutations(["config", 0, 1, 2])), ids=str)
async def test_the_last_good_one_is_served_until_the_whole_new_one_is_there(volume, source, monkeypatch, order, first):
    """The objects arrive in any order, and a shard is either replaced or new."""
    monkeypatch.setattr(config_source, "_POLL_S", 0.005)
    delivered(volume, "old", ("old",) * 3)
    served = [secrets(source.load())]
    metrics = Metrics()

    async def apply(loaded: LoadedConfig) -> None:
        served.append(secrets(loaded))

    def read() -> float:
        samples = [sample for family in metrics.reloads.collect() for sample in family.samples]
        return sum(sample.value for sample in samples if sample.name.endswith("_total"))

    watching = asyncio.create_task(watch(source, apply, metrics))
    try:
        of_config, of_shards = "old", ["old", "old", first or "old"]
        for number, arrived in enumerate(order, start=1):
            if arrived == "config":
                of_config = "new"
            else:
                of_shards[arrived] = "new"
            seen = read()
            # A shard that is created again is deleted first.
            shown = tuple(s if s == "new" or shard != 2 else first for shard, s in enumerate(of_shards))
            delivered(volume, of_config, shown)
            async with asyncio.timeout(20):
                while read() == seen:  # noqa: ASYNC110 - no event reports it
                    await asyncio.sleep(0.002)
            if number < len(order):
                assert served[-1] == all_of("old")
        async with asyncio.timeout(20):
            while served[-1] != all_of("new"):  # noqa: ASYNC110 - no event reports it
                await asyncio.sleep(0.002)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert [s for s in served if s not in (all_of("old"), all_of("new"))] == []


@pytest.mark.parametrize("flag", ["config", "admin_secret"])
def test_a_compressed_file_is_read_whatever_its_name(volume, source, flag):
    """The digest of the configuration is that of the uncompressed text."""
    texts = {"config": CONFIG, "admin_secret": '[a]\ntype = "memory"\nraw = "x"\n'}
    plain = {f"{name}.toml": text for name, text in texts.items()}
    volume.deliver(plain)
    digests = [source.load().digest]
    for name in (f"{flag}.toml", f"{flag}.toml.gz", f"{flag}.toml"):
        others = {path: text for path, text in plain.items() if path != f"{flag}.toml"}
        volume.deliver({**others, name: gzip.compress(texts[flag].encode())})
        assert source.changed()
        digests.append(source.load().digest)
        assert not source.changed()
    volume.deliver(plain)
    assert source.changed()
    digests.append(source.load().digest)
    assert set(digests) == {config_digest(texts["config"], texts["admin_secret"])}


def test_of_a_plain_and_a_compressed_file_the_one_of_the_name_given_is_read(volume, source):
    volume.deliver({"config.toml": CONFIG, "config.toml.gz": gzip.compress(b"[b]"), "admin_secret.toml": ""})
    assert source.load().digest == config_digest(CONFIG, "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(CONFIG.encode())[:-9], "is not valid gzip: Compressed file ended before"),
        (b"\x1f\x8b\x08" + b"\xff" * 20, "is not valid gzip: "),
        (gzip.compress(b"\xff\xfe"), "is not UTF-8 text."),
        (gzip.compress(b" " * (64 * 1024 * 1024 + 1)), "is over 67108864 bytes."),
        (gzip.compress(b"[a"), "is not valid TOML"),
    ],
    ids=["cut off", "damaged", "binary", "too large", "no TOML"],
)
def test_fault_of_a_compressed_file(volume, source, content, said):
    volume.deliver({"config.toml.gz": content, "admin_secret.toml": ""})
    with pytest.raises(InvalidConfigError) as raised:
        source.load()
    assert f"{volume.folder}/config.toml" in str(raised.value)
    assert said in str(raised.value)
