"""Check how the policies of a configuration are delivered: whole, of the right digest, or the last good ones stay."""

import asyncio
import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from pywharf.backends.opening import spec_types
from pywharf.config.repo_config import config_digest
from pywharf.core.errors import IncompleteConfigError, InvalidConfigError
from pywharf.core.names import RepoName
from pywharf.core.policy.model import MAX_RULES
from pywharf.serving import config_source
from pywharf.serving.config_source import ConfigGiven, ConfigSource, watch
from pywharf.serving.definitions import NO_POLICIES, LoadedConfig
from pywharf.serving.metrics import Metrics
from support.parts import CHECKOUT

A, B = RepoName("a"), RepoName("b")
TABLES = '[a]\ntype = "memory"\n[b]\ntype = "memory"\n'


def policy(name: str = "ns/one", **more: object) -> dict[str, object]:
    return {"name": name, "deny": [{"project": "foo", "reason": "stolen"}], **more}


def text(*policies: dict[str, object]) -> str:
    return json.dumps({"policies": policies})


def sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


class Delivered:
    """A folder with a configuration and its policies, and the source that reads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "policies.json"
        self.source = ConfigSource(ConfigGiven(config=str(folder / "config.toml")), spec_types())

    def configure(self, digest: str | None = None) -> str:
        line = f'policies_digest = "{digest}"\n' if digest is not None else ""
        config = f'policies_file = "{self.path}"\n{line}{TABLES}'
        (self.folder / "config.toml").write_text(config)
        return config


@pytest.fixture
def delivered(tmp_path) -> Delivered:
    return Delivered(tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("with_digest", [False, True])
def test_policies_are_read_and_the_digest_of_the_configuration_covers_them(delivered, compressed, with_digest):
    digests = []
    for given in (text(policy()), text(policy(name="ns/other"))):
        config = delivered.configure(sha256(given) if with_digest else None)
        path = delivered.path.with_name("policies.json.gz") if compressed else delivered.path
        path.write_bytes(gzip.compress(given.encode()) if compressed else given.encode())
        loaded = delivered.source.load()
        assert [p.name for p in loaded.policies.document.policies] == [json.loads(given)["policies"][0]["name"]]
        assert loaded.digest == config_digest(config, "", "" if with_digest else sha256(given))
        digests.append(loaded.digest)
    assert len(set(digests)) == 2


def test_without_policies_the_digest_is_that_of_the_texts(delivered):
    (delivered.folder / "config.toml").write_text(TABLES)
    loaded = delivered.source.load()
    assert loaded.policies == NO_POLICIES
    assert loaded.digest == config_digest(TABLES, "")


def test_a_repo_has_the_policies_that_are_about_it_and_keeps_unchanged_ones(delivered):
    delivered.configure()
    everybody, own = policy("ns/all"), policy("ns/own", repos=["b"])

    def load(*policies: dict[str, object]) -> LoadedConfig:
        delivered.path.write_text(text(*policies))
        loaded: LoadedConfig = delivered.source.load()
        return loaded

    first = load(everybody, own).policies.by_repo
    assert first.keys() == {A, B}
    second = load(everybody, policy("ns/own", repos=["b"], yank=[{"project": "x"}])).policies.by_repo
    assert second[A] is first[A], "the pages of other repos stay"
    assert second[B] is not first[B]
    assert load(own).policies.by_repo.keys() == {B}
    assert load().policies.by_repo == {}


def test_policies_that_have_not_arrived_yet(delivered):
    wanted = text(policy())
    delivered.configure(sha256(wanted))
    with pytest.raises(IncompleteConfigError, match=r"there is no \S+policies.json yet; the configuration is taken"):
        delivered.source.load()
    delivered.path.write_text(text())
    assert delivered.source.changed()
    with pytest.raises(IncompleteConfigError, match=r"the configuration needs '\w{12}'; it is taken as soon as they"):
        delivered.source.load()
    delivered.path.write_text(wanted)
    assert delivered.source.changed()
    assert delivered.source.load().policies.by_repo.keys() == {A, B}
    assert not delivered.source.changed()
    gone = delivered.path.rename(delivered.path.with_name("policies.json.gz"))
    assert delivered.source.changed()
    assert delivered.source.load().policies.by_repo.keys() == {A, B}
    gone.unlink()
    assert delivered.source.changed()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory."),
        (b"\xff", "is not UTF-8 text."),
        (b"", "The policies cannot be read: "),
        (b"[" * 100_000, "The policies cannot be read: "),
        (b'{"policies": [{"name": "ns/a", "deny": [{"project": 1}]}]}', "`$.policies[0].deny[0].project`."),
        (b'{"policies": [{"name": "ns/a", "ban": []}]}', "unknown field `ban`"),
        (b'{"policies": [{"name": "ns/a", "deny": [{"project": "x", "reason": "\\ud800"}]}]}', "surrogate"),
        (
            b'{"policies": [{"name": "ns/a", "deny": [{"project": "x", "versions": "newest"}]}]}',
            "The policy 'ns/a' cannot be used: the versions 'newest' of 'x' are not version specifiers (PEP 440).",
        ),
        (text(policy(repos=["Team-A"])).encode(), "The policy 'ns/one' names the repo 'Team-A'; write 'team-a'."),
        (text(policy(repos=["a b"])).encode(), "a b"),
        (text(*[policy(f"ns/{n}") for n in range(MAX_RULES + 1)]).encode(), f"a server takes {MAX_RULES}."),
        (gzip.compress(b" " * (64 * 1024 * 1024 + 1)), "is over 67108864 bytes."),
    ],
    ids=[
        "missing",
        "binary",
        "empty",
        "deep",
        "type",
        "unknown rule",
        "surrogate",
        "specifier",
        "spelling",
        "no repo",
        "many",
        "large",
    ],
)
def test_policies_that_cannot_be_used_refuse_the_configuration(delivered, content, said):
    delivered.configure()
    if content is not None:
        delivered.path.write_bytes(content)
    with pytest.raises(InvalidConfigError) as raised:
        delivered.source.load()
    assert not isinstance(raised.value, IncompleteConfigError)
    assert str(raised.value).startswith("policies_file")
    assert str(delivered.path) in str(raised.value)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600


async def test_the_last_good_policies_stay(delivered, monkeypatch):
    monkeypatch.setattr(config_source, "_POLL_S", 0.005)
    delivered.configure()
    delivered.path.write_text(text(policy("ns/1")))
    served = [delivered.source.load().policies]
    metrics = Metrics()
    changed = asyncio.Event()

    async def apply(loaded: LoadedConfig) -> None:
        served.append(loaded.policies)
        changed.set()

    def refused() -> float:
        samples = [sample for family in metrics.reloads.collect() for sample in family.samples]
        return sum(s.value for s in samples if s.name.endswith("_total") and s.labels["result"] == "refused")

    watching = asyncio.create_task(watch(delivered.source, apply, metrics))
    try:
        async with asyncio.timeout(20):
            delivered.path.write_text('{"policies": [{')
            while not refused():  # noqa: ASYNC110 - no event reports it
                await asyncio.sleep(0.002)
            delivered.path.write_text(text(policy("ns/2")))
            await changed.wait()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert [p.name for policies in served for p in policies.document.policies] == ["ns/1", "ns/2"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('policies_file = ""\n', "'policies_file' is empty; give the path of a file, or leave it out."),
        (f'policies_digest = "{"a" * 64}"\n', "'policies_digest' needs 'policies_file', whose digest it is."),
        ('policies_file = "/x"\npolicies_digest = "A"\n', "'policies_digest' is no SHA-256 in lower-case hex."),
        ("policies_file = 1\n", "'policies_file' is not a table"),
        ('[policies_file]\ntype = "memory"\n', "'policies_file' is the configuration's own key"),
        ('[policies_digest]\ntype = "memory"\n', "'policies_digest' is the configuration's own key"),
    ],
)
def test_fault_of_the_keys(delivered, config, said):
    (delivered.folder / "config.toml").write_text(config)
    with pytest.raises(InvalidConfigError) as raised:
        delivered.source.load()
    assert said in str(raised.value)


def test_a_command_on_a_storage_reads_no_policies(delivered):
    delivered.configure(sha256("x"))
    given = ConfigGiven(config=str(delivered.folder / "config.toml"))
    loaded = ConfigSource(given, spec_types(), with_policies=False).load()
    assert loaded.repos.keys() == {A, B}
    assert loaded.policies == NO_POLICIES


def test_the_documents_in_the_docs_can_be_used(delivered):
    text_of_docs = (CHECKOUT / "docs" / "commands.md").read_text()
    examples = re.findall(r"^```json\n(\{\"policies\".*?)^```", text_of_docs, re.MULTILINE | re.DOTALL)
    assert examples
    delivered.configure()
    for example in examples:
        delivered.path.write_text(example)
        (found,) = delivered.source.load().policies.document.policies
        assert found.cooldown
        assert all((found.deny, found.yank, found.status, found.exceptions))
