"""Large configurations: sharded credentials, compressed texts, and the limits of both."""

import base64
import gzip

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pywharf.core.names import RepoName, parse_repo_name
from pywharf_operator.local.folder import default_server
from pywharf_operator.render.objects.config_map import config_map, config_text, texts_of
from pywharf_operator.render.objects.credentials import (
    MAX_SHARDS,
    credentials_content,
    credentials_secrets,
    revision,
    revision_key,
    secret_key,
    shard_name,
    shard_of,
    shards,
)
from pywharf_operator.render.resolve.findings import REASONS
from pywharf_operator.render.resolve.object_sizes import LARGE_BYTES, MAX_BYTES, config_rendered, size_of
from pywharf_operator.render.resolve.secret_refs import RepoSecrets
from pywharf_operator.spec.forms import REPO_NAME
from support.examples import examples

SERVER = default_server("ml")
EMPTY = config_map(SERVER, "", "")


def secrets_of(content, session_key=b"k"):
    return credentials_secrets(SERVER, shards(content), revision(content, session_key))


def decoded(manifest):
    return {key: base64.b64decode(value) for key, value in manifest["data"].items()}


def content_of(repos, value_bytes):
    """Build the content of `repos` repos, each with a secret of `value_bytes`."""
    return {f"repo-{number}.read": b"x" * value_bytes for number in range(repos)}


@pytest.mark.parametrize(
    ("repos", "value_bytes", "count"),
    [(0, 0, 1), (5000, 40, 1), (47, 16 * 1024, 1), (60, 16 * 1024, 2), (120, 16 * 1024, 4), (1000, 5000, 8)],
)
def test_as_few_shards_as_keep_each_small(repos, value_bytes, count):
    made = secrets_of(content_of(repos, value_bytes))
    assert len(made) == count
    assert [secret["metadata"]["name"] for secret in made] == [shard_name(SERVER, i) for i in range(count)]
    assert max(map(size_of, made)) < LARGE_BYTES
    assert config_rendered(EMPTY, made).status is True


def test_names_of_the_shards():
    assert [shard_name(SERVER, i) for i in (0, 1, 7)] == [
        "pywharf-credentials",
        "pywharf-credentials-1",
        "pywharf-credentials-7",
    ]


def test_past_the_last_shard_they_grow_until_kubernetes_takes_no_more():
    made = secrets_of(content_of(350, 16 * 1024))
    assert len(made) == MAX_SHARDS
    assert LARGE_BYTES < max(map(size_of, made)) < MAX_BYTES
    assert config_rendered(EMPTY, made).reason == "Rendered"
    too_large = secrets_of(content_of(600, 16 * 1024))
    found = config_rendered(EMPTY, too_large)
    assert (found.status, found.reason) == (False, "ConfigTooLarge")
    size = next(size_of(secret) for secret in too_large if size_of(secret) > MAX_BYTES)
    assert f" {size} bytes" in found.message
    assert "another PackageServer" in found.message
    assert found.reason in REASONS["PackageServer ConfigRendered"]


NAMES = st.from_regex(REPO_NAME.pattern.removeprefix("^").removesuffix("$"), fullmatch=True).filter(
    lambda name: len(name) <= REPO_NAME.max_length and name not in REPO_NAME.forbidden
)
VALUES = st.one_of(st.none(), st.binary(min_size=1, max_size=8), st.just(b"x" * 400_000))
REPOS = st.dictionaries(
    NAMES.map(RepoName), st.builds(RepoSecrets, read=VALUES, write=VALUES, backend=VALUES), max_size=8
)


@settings(max_examples=examples(40), deadline=None)
@given(REPOS)
def test_shards_together_hold_exactly_the_content(repos):
    content = credentials_content(repos)
    made = secrets_of(content)
    wanted = revision(content, b"k").encode()
    found: dict[str, bytes] = {}
    for number, secret in enumerate(made):
        data = decoded(secret)
        assert data.pop(revision_key(number)) == wanted
        assert not set(data) & set(found)
        assert all(shard_of(RepoName(key.rpartition(".")[0]), len(made)) == number for key in data)
        found |= data
    assert found == content
    assert len(made) == 1 or any(size_of(secret) >= LARGE_BYTES for secret in _halved(content, len(made)))
    assert len(made) == MAX_SHARDS or all(size_of(secret) < LARGE_BYTES for secret in made)


def _halved(content, count):
    """Distribute the content over half as many shards."""
    parts: list[dict[str, bytes]] = [{} for _ in range(count // 2)]
    for key, value in content.items():
        parts[shard_of(RepoName(key.rpartition(".")[0]), count // 2)][key] = value
    return credentials_secrets(SERVER, tuple(parts), "0" * 64)


@settings(max_examples=examples(40), deadline=None)
@given(REPOS.filter(lambda repos: any(secrets.given() for secrets in repos.values())), st.data())
def test_a_changed_secret_changes_the_revision_in_every_shard(repos, data):
    content = credentials_content(repos)
    changed = dict(content)
    changed[data.draw(st.sampled_from(sorted(content)))] += b"!"
    before = secrets_of(content)
    for number, secret in enumerate(secrets_of(changed)):
        old = before[number] if number < len(before) else before[0]
        assert secret["data"][revision_key(number)] not in old["data"].values()


@given(NAMES, st.sampled_from(["read", "write", "backend"]))
@example("config", "read")
@example("config.toml", "read")
@example("admin_secret", "backend")
@example("revision-0", "read")
@example("revision", "read")
def test_no_key_clashes_with_another_file_of_the_volume(name, use):
    """The keys share one folder with the texts and the revisions."""
    own = {"config.toml", "config.toml.gz", "admin_secret.toml", "admin_secret.toml.gz"}
    own |= {revision_key(shard) for shard in range(MAX_SHARDS)}
    assert secret_key(parse_repo_name(name), use) not in own


@pytest.mark.parametrize(
    ("config", "admin_secret", "compressed"),
    [("", "", False), ("a = 1", "b = 'ä'", False), ("#" * LARGE_BYTES, "", True), ("#", "ä" * LARGE_BYTES, True)],
    ids=["empty", "small", "config", "admin"],
)
def test_large_texts_are_compressed(config, admin_secret, compressed):
    made = config_map(SERVER, config, admin_secret)
    assert texts_of(made) == {"config.toml": config, "admin_secret.toml": admin_secret}
    assert made == config_map(SERVER, config, admin_secret)
    assert set(made.get("data", {})) == (set() if compressed else {"config.toml", "admin_secret.toml"})
    assert set(made.get("binaryData", {})) == ({"config.toml.gz", "admin_secret.toml.gz"} if compressed else set())
    assert size_of(made) < LARGE_BYTES
    for key, value in made.get("binaryData", {}).items():
        assert gzip.decompress(base64.b64decode(value)).decode() == texts_of(made)[key.removesuffix(".gz")]


def test_a_configuration_that_compresses_badly_is_too_large():
    noise = "".join(f"{number:x}" for number in (pow(7, i, 2**521 - 1) for i in range(20_000)))
    found = config_rendered(config_map(SERVER, noise, ""), ())
    assert (found.status, found.reason) == (False, "ConfigTooLarge")
    assert "ConfigMap pywharf-config would take" in found.message


def test_the_text_names_the_revision_of_every_shard():
    assert 'credentials_revision_file = [ "/f/revision-0", "/f/revision-1",]' in config_text({}, "00", 2, "/f")
