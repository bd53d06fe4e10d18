"""Check how the identity document is delivered: whole, of the right digest, or the last good one stays."""

import gzip
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pywharf.backends.opening import spec_types
from pywharf.config.repo_config import config_digest
from pywharf.core.access.identity_document import MAX_ISSUERS
from pywharf.core.errors import IncompleteConfigError, InvalidConfigError
from pywharf.serving.config_source import ConfigGiven, ConfigSource, SubmittedConfig
from pywharf.serving.definitions import NO_IDENTITY
from support.identity.tokens import CLUSTER, CORP, identity_document, jwks, signing_key
from support.parts import CHECKOUT

TABLES = '[a]\ntype = "memory"\n'


def text(**changed: object) -> str:
    return json.dumps(identity_document(**changed))


def sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


class Delivered:
    """A folder with a configuration and an identity document, and the source that reads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "identity.json"
        self.source = ConfigSource(ConfigGiven(config=str(folder / "config.toml")), spec_types())

    def configure(self, digest: str | None = None, more: str = "") -> str:
        line = f'identity_digest = "{digest}"\n' if digest is not None else ""
        config = f'identity_file = "{self.path}"\n{line}{more}{TABLES}'
        (self.folder / "config.toml").write_text(config)
        return config


@pytest.fixture
def delivered(tmp_path: Path) -> Delivered:
    return Delivered(tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("with_digest", [False, True])
def test_the_document_is_read_and_the_digest_of_the_configuration_covers_it(delivered, compressed, with_digest):
    digests = []
    for audience in ("one", "other"):
        given = text(audience=audience)
        config = delivered.configure(sha256(given) if with_digest else None)
        path = delivered.path.with_name("identity.json.gz") if compressed else delivered.path
        path.write_bytes(gzip.compress(given.encode()) if compressed else given.encode())
        loaded = delivered.source.load()
        assert loaded.identity.document.audience == audience
        assert loaded.identity.issuers.keys() == {CLUSTER, CORP}
        assert loaded.digest == config_digest(config, "", identity_digest="" if with_digest else sha256(given))
        assert delivered.source.load().identity is loaded.identity, "it is compiled once"
        digests.append(loaded.digest)
    assert len(set(digests)) == 2


def test_policies_and_identities_have_digests_of_their_own():
    assert config_digest("a", "b", "c") != config_digest("a", "b", identity_digest="c")
    assert config_digest("a", "b", identity_digest="") == config_digest("a", "b")


def test_without_a_document_nobody_is_believed(delivered):
    (delivered.folder / "config.toml").write_text(TABLES)
    assert delivered.source.load().identity == NO_IDENTITY


def test_a_document_that_has_not_arrived_yet(delivered):
    wanted = text()
    delivered.configure(sha256(wanted))
    with pytest.raises(IncompleteConfigError, match=r"The identities have not arrived: there is no \S+identity.json"):
        delivered.source.load()
    delivered.path.write_text(text(audience="old"))
    assert delivered.source.changed()
    with pytest.raises(IncompleteConfigError, match=r"the configuration needs '\w{12}'; it is taken as soon as they"):
        delivered.source.load()
    delivered.path.write_text(wanted)
    assert delivered.source.changed()
    assert delivered.source.load().identity.issuers
    assert not delivered.source.changed()


CORP_ISSUER = {"name": "corp", "url": CORP}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory."),
        (b"\xff", "is not UTF-8 text."),
        (b"", "The identity document cannot be read: "),
        (b"[" * 100_000, "The identity document cannot be read: "),
        (b'{"believe": "everybody"}', "unknown field `believe`"),
        (text(issuers=[{**CORP_ISSUER, "algorithms": ["none"]}]).encode(), "unknown field `algorithms`"),
        (text(issuers=[{"name": "corp"}]).encode(), "'corp' has no url; only github and gitlab are known by name"),
        (text(issuers=[{"name": "corp", "url": "http://sso"}]).encode(), "its url must begin with https://"),
        (text(issuers=[{"name": "corp", "url": "https://a@b"}]).encode(), "may hold no user info"),
        (text(issuers=[{"name": "corp", "url": "sso"}]).encode(), "must be an http or https URL"),
        (text(issuers=[CORP_ISSUER, {**CORP_ISSUER, "url": f"{CORP}/x"}]).encode(), "Two issuers are named 'corp'"),
        (text(issuers=[{**CORP_ISSUER, "name": "user"}]).encode(), "no issuer may be named 'user'"),
        (text(issuers=[CORP_ISSUER, {**CORP_ISSUER, "name": "other"}]).encode(), "'other' has the URL of another"),
        (text(issuers=[{"name": "corp", "url": CLUSTER}]).encode(), "has the URL of another issuer, or of the cluster"),
        (
            text(issuers=[{"name": f"i{n}", "url": f"{CORP}/{n}"} for n in range(MAX_ISSUERS + 1)]).encode(),
            "length <= 16",
        ),
        (text(issuers=[{**CORP_ISSUER, "jwks": {}}]).encode(), "The jwks of the issuer 'corp' cannot be used: it has"),
        (text(cluster={"issuer": CLUSTER, "jwks": {"keys": []}}).encode(), "The jwks of the cluster cannot be used"),
        (
            text(cluster={"issuer": CLUSTER, "jwks": {"keys": [signing_key().jwk(d="AQAB")]}}).encode(),
            "it holds a private or shared key; only public ones belong there.",
        ),
    ],
    ids=[
        "missing",
        "binary",
        "empty",
        "deep",
        "unknown field",
        "unknown field of an issuer",
        "no url",
        "no TLS",
        "user info",
        "no URL",
        "a name twice",
        "a reserved name",
        "a URL twice",
        "the cluster's URL",
        "many",
        "no keys",
        "no usable key",
        "private",
    ],
)
def test_documents_that_cannot_be_used_refuse_the_configuration(delivered, content, said):
    delivered.configure()
    if content is not None:
        delivered.path.write_bytes(content)
    with pytest.raises(InvalidConfigError) as raised:
        delivered.source.load()
    assert not isinstance(raised.value, IncompleteConfigError)
    assert str(raised.value).startswith("identity_file")
    assert str(delivered.path) in str(raised.value)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600


def test_issuers_that_are_known_by_name_need_no_url(delivered):
    delivered.configure()
    inline = {"name": "gitlab", "url": "http://gitlab.internal", "jwks": jwks(signing_key())}
    delivered.path.write_text(json.dumps({"issuers": [{"name": "github"}, inline]}))
    issuers = delivered.source.load().identity.issuers
    assert issuers.keys() == {"https://token.actions.githubusercontent.com", "http://gitlab.internal"}
    assert [one.is_followed for one in issuers.values()] == [True, False]
    assert {one.expected.audience for one in issuers.values()} == {"pywharf"}


def test_a_reviewed_cluster_needs_no_keys(delivered):
    delivered.configure()
    delivered.path.write_text(json.dumps({"cluster": {"issuer": CLUSTER, "jwks": {}, "token_review": True}}))
    (one,) = delivered.source.load().identity.issuers.values()
    assert (one.is_reviewed, one.is_followed, one.keys) == (True, False, None)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('identity_file = ""\n', "'identity_file' is empty; give the path of a file, or leave it out."),
        (f'identity_digest = "{"a" * 64}"\n', "'identity_digest' needs 'identity_file', whose digest it is."),
        ('identity_file = "/x"\nidentity_digest = "A"\n', "'identity_digest' is no SHA-256 in lower-case hex."),
        ("identity_file = 1\n", "'identity_file' is not a table"),
        ('[identity_file]\ntype = "memory"\n', "'identity_file' is the configuration's own key"),
        ('[identity_digest]\ntype = "memory"\n', "'identity_digest' is the configuration's own key"),
    ],
)
def test_fault_of_the_keys(delivered, config, said):
    (delivered.folder / "config.toml").write_text(config)
    with pytest.raises(InvalidConfigError) as raised:
        delivered.source.load()
    assert said in str(raised.value)


def test_a_client_names_no_document_and_ends_none():
    named = f'identity_file = "/identity.json"\n{TABLES}'
    with pytest.raises(InvalidConfigError, match="identity_file is not taken by /initialize/"):
        ConfigSource(ConfigGiven(), spec_types()).load_submitted(SubmittedConfig(named, ""))
    source = ConfigSource(ConfigGiven(config=named, can_be_text=True), spec_types())
    with pytest.raises(InvalidConfigError, match="names an identity_file, whose issuers a submitted one would end"):
        source.load_submitted(SubmittedConfig(TABLES, ""))


def test_a_command_on_a_storage_reads_no_document(delivered):
    delivered.configure(sha256("x"))
    given = ConfigGiven(config=str(delivered.folder / "config.toml"))
    assert ConfigSource(given, spec_types(), with_policies=False).load().identity == NO_IDENTITY


def test_a_server_without_a_document_loads_no_library():
    program = "import sys, pywharf.cli.worker; print(sorted({'jwt', 'cryptography'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_documents_in_the_docs_can_be_used(delivered):
    text_of_docs = (CHECKOUT / "docs" / "service-account-tokens.md").read_text()
    examples = re.findall(r"^```json\n(\{\"audience\".*?)^```", text_of_docs, re.MULTILINE | re.DOTALL)
    assert examples
    delivered.configure()
    for example in examples:
        delivered.path.write_text(example)
        assert delivered.source.load().identity.issuers
