"""Check that configuration is read strictly, and that each fault is one sentence without a secret."""

import functools
import json
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from pywharf.backends.opening import spec_types
from pywharf.config import repo_config
from pywharf.config.repo_config import (
    DIGEST_ROUNDS,
    AdminSecret,
    BackendSpec,
    FileSystemSpec,
    MemorySpec,
    SecretRef,
    Upstream,
    UpstreamSource,
    config_digest,
    parse_spec,
    type_of,
)
from pywharf.config.settings import ServerSettings
from pywharf.core.errors import InvalidConfigError
from pywharf.core.names import RepoName
from pywharf.core.struct_errors import convert
from pywharf.core.urls import check_url

SPECS = spec_types()
parse_config = functools.partial(repo_config.parse_config, specs=SPECS)
TEAM_A = RepoName("team-a")
SECRET = "sesame-open"
WHOLE = """
credentials_revision = "0123"
credentials_revision_file = "/run/credentials/revision"

[team-a]
type = "file_system"
read_secret = "foo"
write_secret = {env = "WRITE"}
index_filename = "my.index.json"
max_file_bytes = 1000
sync_index_interval = 5
owner = "ml/team-a"
upstream = {url = "https://index.example/simple/", mode = "None", reserved = ["acme-*"], allow_shadowing = ["acme-x"]}

[Open]
type = "memory"
anonymous_read = true
write_secret = {file = "/run/secrets/open"}
"""
WHOLE_ADMIN = """
[team-a]
type = "file_system"
raw = "foo"

[open]
type = "memory"
env = "ADMIN"
"""


def test_every_field():
    config = parse_config(WHOLE, WHOLE_ADMIN)
    assert config.credentials_revision == "0123"
    assert config.credentials_revision_file == ("/run/credentials/revision",)
    assert config.repos == {
        "team-a": FileSystemSpec(
            read_secret="foo",
            write_secret=SecretRef(env="WRITE"),
            index_filename="my.index.json",
            max_file_bytes=1000,
            sync_index_interval=5,
            owner="ml/team-a",
            upstream=Upstream(
                url="https://index.example/simple/", mode="None", reserved=("acme-*",), allow_shadowing=("acme-x",)
            ),
        ),
        "open": MemorySpec(anonymous_read=True, write_secret=SecretRef(file="/run/secrets/open")),
    }
    assert config.admin_secrets[TEAM_A].secret == "foo"
    assert config.admin_secrets[RepoName("open")].secret == SecretRef(env="ADMIN")
    assert [type_of(spec) for spec in config.repos.values()] == ["file_system", "memory"]


def test_secrets_in_several_parts():
    config = parse_config('credentials_revision_file = ["/run/revision-0", "/run/revision-1"]', "")
    assert config.credentials_revision_file == ("/run/revision-0", "/run/revision-1")


def test_the_digest_is_of_both_texts_apart():
    digests = {config_digest(*texts) for texts in [("a", "b"), ("ab", ""), ("", "ab"), ("a", "c"), ("b", "a")]}
    assert len(digests) == 5
    assert config_digest("a", "b") in digests
    assert all(len(digest) == 64 for digest in digests)


def test_the_digest_is_slow_and_the_same_in_all_versions(monkeypatch):
    """Operator and server compute it, and may be of different versions."""
    assert DIGEST_ROUNDS == 100_000
    monkeypatch.setattr(repo_config, "DIGEST_ROUNDS", DIGEST_ROUNDS)  # the other unit tests compute a cheap one
    assert config_digest("a", "b") == "80bb533e622777756caf97ddf1d04889589733f2ee40d7c0829c48620414a7ac"


def test_defaults():
    (spec,) = parse_config('[a]\ntype = "file_system"\n', "").repos.values()
    assert spec == FileSystemSpec()
    assert (spec.index_name, MemorySpec().index_name) == ("index.toml", "index.json")
    assert spec.max_file_bytes == 5 * 1024**3 - 1
    assert (spec.upstream.url, spec.upstream.mode, spec.anonymous_read) == (None, "Pages", False)


def test_sources():
    lines = [
        "[a]",
        'type = "memory"',
        "[a.upstream]",
        'mode = "Cached"',
        "[[a.upstream.sources]]",
        'url = "https://torch.example/whl/"',
        'projects = ["torch*"]',
        'username = "ci"',
        'password = {file = "/run/torch"}',
        "[[a.upstream.sources]]",
        'url = "https://index.example/simple/"',
    ]
    (spec,) = parse_config("\n".join(lines), "").repos.values()
    first, second = spec.upstream.sources
    assert (spec.upstream.mode, spec.upstream.url) == ("Cached", None)
    assert first == UpstreamSource(
        url="https://torch.example/whl/",
        projects=("torch*",),
        username="ci",
        password=SecretRef(file="/run/torch"),
    )
    assert second == UpstreamSource(url="https://index.example/simple/")
    assert "/run/torch" not in repr(spec)


def test_nothing_at_all():
    config = parse_config("", "")
    assert (config.repos, config.admin_secrets) == ({}, {})


def test_the_original_s_example():
    config = parse_config(
        '[local-file-system]\ntype = "file_system"\nread_secret = "foo"\nwrite_secret = "bar"\n',
        '[local-file-system]\ntype = "file_system"\nraw = "foo"\n',
    )
    assert config.repos.keys() == config.admin_secrets.keys() == {"local-file-system"}


def table(*lines: str, name: str = "a", kind: str = "file_system") -> str:
    return "\n".join([f"[{name}]", f'type = "{kind}"', *lines, ""])


IN_A = "config, table [a]: "


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("a = ", "config is not valid TOML: Invalid value (at end of document)."),
        ('a = "x"', "config: 'a' is not a table; each repo is one, for example [team-a]."),
        ("[[a]]\ntype = 'x'", "config: 'a' is not a table;"),
        ("['a b']\ntype = 'memory'", "config: 'a b' is not a valid repo name: use at most 63 ASCII letters"),
        ("['']\ntype = 'memory'", "config: '' is not a valid repo name"),
        ("[credentials_revision]\ntype = 'memory'", "config: 'credentials_revision' is the configuration's own key;"),
        (table() + table(name="A"), "config: the repo 'a' stands there twice (upper and lower case are the same"),
        (table() + table(), "config is not valid TOML: Cannot declare ('a',) twice (at line 3, column 3)."),
        ("[a]\n", f"{IN_A}type is missing; name one of azure, file_system, gcs, github, memory, s3."),
        (
            "[a]\ntype = 1\n",
            f"{IN_A}type is '1'; the backends installed here are azure, file_system, gcs, github, memory, s3.",
        ),
        ("[a]\ntype = 'File_System'\n", f"{IN_A}type is 'File_System'; the backends installed here are"),
        (table("reed_secret = 'x'"), f"{IN_A}the field 'reed_secret' is unknown; check its spelling"),
        (table("owner = 1"), f"{IN_A}owner is 1: expected `str | null`, got `int`."),
        (table("anonymous_read = 'yes'"), f"{IN_A}anonymous_read is 'yes': expected `bool`, got `str`."),
        (table("max_file_bytes = 0"), f"{IN_A}max_file_bytes is 0: expected `int` >= 1."),
        (table("max_file_bytes = 99999999999999999999"), f"{IN_A}max_file_bytes is 99999999999999999999: "),
        (table("max_file_bytes = 1.5"), f"{IN_A}max_file_bytes is 1.5: expected `int`, got `float`."),
        (table("sync_index_interval = 86401"), f"{IN_A}sync_index_interval is 86401: expected `int` <= 86400."),
        (
            table("index_filename = '../index.toml'"),
            f"{IN_A}index_filename is '../index.toml': it must be a file name",
        ),
        (
            table("index_filename = 'index.xml'"),
            f"{IN_A}index_filename is 'index.xml': it must be a file name",
        ),
        (table("index_filename = '.toml'"), f"{IN_A}index_filename is '.toml': "),
        (table("owner = 'x'", kind="memory"), f"{IN_A}the field 'owner' is unknown;"),
        (table("upstream = 'x'"), f"{IN_A}upstream is 'x': expected `object`, got `str`."),
        (table("upstream = {uri = 'x'}"), f"{IN_A}the field 'upstream.uri' is unknown;"),
        (table("upstream = {mode = 'Proxy'}"), f"{IN_A}upstream.mode is 'Proxy': "),
        (table("upstream = {url = 'ftp://x/'}"), f"{IN_A}upstream: url is 'ftp://x/'; it must be an http or https URL"),
        (table("upstream = {reserved = 'acme-*'}"), f"{IN_A}upstream.reserved is 'acme-*': expected `array`"),
        (table("upstream = {reserved = [1]}"), f"{IN_A}upstream.reserved[0] is 1: expected `str`, got `int`."),
        (
            table("upstream = {reserved = ['a', 'b c']}"),
            f"{IN_A}upstream: reserved holds 'b c'; write a project's name",
        ),
        (table("upstream = {allow_shadowing = ['']}"), f"{IN_A}upstream: allow_shadowing holds ''; write a project's"),
        (
            table("upstream = {url = 'https://x/', sources = [{url = 'https://y/'}]}"),
            f"{IN_A}upstream: url and sources exclude each other; make the url the last of the sources.",
        ),
        (table("upstream = {sources = [{}]}"), f"{IN_A}upstream.sources[0]"),
        (table("upstream = {sources = [{url = 'x'}]}"), f"{IN_A}upstream.sources[0]: url is 'x'; it must be an http"),
        (
            table("upstream = {sources = [{url = 'https://x/', projects = ['a b']}]}"),
            f"{IN_A}upstream.sources[0]: projects holds 'a b'; write a project's name",
        ),
        (
            table("upstream = {sources = [{url = 'https://x/', username = 'u'}]}"),
            f"{IN_A}upstream.sources[0]: username and password belong together; give both, or leave both out.",
        ),
        (
            table("upstream = {sources = [" + ", ".join(17 * ["{url = 'https://x/'}"]) + "]}"),
            f"{IN_A}upstream.sources: expected `array` of length <= 16.",
        ),
        (table("read_secret = 5"), f"{IN_A}read_secret: expected `str | object | null`, got `int`."),
        (table("read_secret = {}"), f"{IN_A}read_secret: name exactly one of env and file, for example"),
        (table("read_secret = {env = 'A', file = '/b'}"), f"{IN_A}read_secret: name exactly one of env and file"),
        (table("write_secret = {raw = 'x'}"), f"{IN_A}the field 'write_secret.raw' is unknown;"),
        (table("write_secret = {env = 1}"), f"{IN_A}write_secret.env: expected `str | null`, got `int`."),
        ("credentials_revision = 1", "config: 'credentials_revision' is not a table;"),
        ("credentials_revision_file = 1", "config: 'credentials_revision_file' is not a table;"),
        ("credentials_revision_file = ''", "config: 'credentials_revision_file' is neither the path of a file nor a"),
        ("credentials_revision_file = []", "config: 'credentials_revision_file' is neither the path of a file nor a"),
        ("credentials_revision_file = ['/a', 1]", "config: 'credentials_revision_file' is neither the path of a file"),
    ],
)
def test_fault(config, message):
    with pytest.raises(InvalidConfigError) as raised:
        parse_config(config, "")
    assert str(raised.value).startswith(message)
    assert str(raised.value).endswith((".", ")"))


@pytest.mark.parametrize(
    ("admin", "message"),
    [
        ("[a", "admin_secret is not valid TOML: "),
        ("a = 'x'", "admin_secret: 'a' is not a table;"),
        ("[a]\nraw = 'x'", "admin_secret, table [a]: object missing required field `type`."),
        (
            "[a]\ntype = 'memory'\nraw = 'x'",
            "admin_secret, table [a]: type is 'memory', but the repo's is 'file_system'",
        ),
        ("[a]\ntype = 'file_system'", "admin_secret, table [a]: name exactly one of raw, env and file."),
        (
            "[a]\ntype = 'file_system'\nraw = 'x'\nenv = 'y'",
            "admin_secret, table [a]: name exactly one of raw, env and",
        ),
        ("[a]\ntype = 'file_system'\nraw = 1", "admin_secret, table [a]: raw: expected `str | null`, got `int`."),
        (
            "[a]\ntype = 'file_system'\nraw = ''\nsecret = 'x'",
            "admin_secret, table [a]: the field 'secret' is unknown;",
        ),
    ],
)
def test_fault_of_admin_secrets(admin, message):
    with pytest.raises(InvalidConfigError) as raised:
        parse_config(table(), admin)
    assert str(raised.value).startswith(message)


def test_sources_are_named_as_they_are_called():
    with pytest.raises(InvalidConfigError, match=r"^/etc/config\.toml, table \[a\]: the field"):
        parse_config(table("x = 1"), "", source="/etc/config.toml")
    with pytest.raises(InvalidConfigError, match=r"^/etc/admin\.toml, table \[a\]: name exactly one"):
        parse_config(table(), table(), admin_source="/etc/admin.toml")


@pytest.mark.parametrize(
    "fault",
    [
        table(f"read_secret = ['{SECRET}']"),
        table(f"read_secret = {{env = ['{SECRET}']}}"),
        table(f"read_secret = {{env = 'A', file = '{SECRET}', raw = '{SECRET}'}}"),
        table(f"read_secret = {{raw = '{SECRET}'}}"),
        table(f"write_secret = '{SECRET}'", "x = 1"),
        table(f"write_secret = '{SECRET}'", "max_file_bytes = 'x'"),
        table(f"write_secret = '{SECRET}' x"),
        table(f"write_secret = '{SECRET}"),
        table(f"password = '{SECRET}'"),
        table(f"upstream = {{url = 'https://user:{SECRET}@index.example/'}}"),
        table(f"upstream = {{url = 'https://{SECRET}@index.example:99999/'}}"),
        table(f"upstream = {{url = 'user:{SECRET}@index.example'}}"),
        table(f"upstream = {{url = 'https://user:{SECRET}@[bad/'}}"),
        table(f"upstream = {{url = 'https://index.example/?token={SECRET}'}}"),
        table(f"upstream = {{url = 'https://index.example/#{SECRET}'}}"),
        table(f"upstream = {{url = 'https://user:{SECRET}@index.example/{'x' * 3000}'}}"),
        table(f"upstream = {{reserved = 'https://user:{SECRET}@index.example/'}}"),
        table(f"upstream = {{sources = [{{url = 'https://user:{SECRET}@index.example/'}}]}}"),
        table(f"upstream = {{sources = [{{url = 'https://x/', password = '{SECRET}'}}]}}"),
        table(f"upstream = {{sources = [{{url = 'https://x/', username = 'u', password = ['{SECRET}']}}]}}"),
        table(f"upstream = {{sources = [{{url = 'https://x/', username = 'u', password = '{SECRET}', x = 1}}]}}"),
    ],
)
def test_no_message_holds_a_secret(fault):
    with pytest.raises(InvalidConfigError) as raised:
        parse_config(fault, "")
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None or SECRET not in str(raised.value.__cause__)
    with pytest.raises(InvalidConfigError) as raised:
        parse_config("", fault.replace("write_secret", "raw"))
    assert SECRET not in str(raised.value)


SECRET_FIELDS = ["raw", "env", "file", "read_secret", "write_secret"]
secrets = st.sampled_from([SECRET, "", [SECRET], {"env": [SECRET]}, {"file": SECRET, "x": SECRET}, 5, True])
others = st.sampled_from(["file_system", "x", 5, -1, 1.5, True, [], {}])


@given(
    st.dictionaries(st.sampled_from(SECRET_FIELDS), secrets),
    st.dictionaries(st.sampled_from(["type", "owner", "upstream", "max_file_bytes", "anonymous_read"]), others),
)
def test_any_table_is_taken_or_refused(with_secrets, without):
    given_ = with_secrets | without
    for convert_ in (
        lambda: parse_spec(given_, SPECS, "here"),
        lambda: convert(given_, AdminSecret, "here"),
    ):
        said = "here: fine"
        try:
            convert_()
        except InvalidConfigError as error:
            said = str(error)
        assert said.startswith("here: ")
        assert SECRET not in said


@pytest.mark.parametrize(
    "url",
    ["http://host", "https://host/", "https://host:8443/simple/", "http://127.0.0.1:1/x", "http://[::1]:8080/simple"],
)
def test_url(url):
    check_url(url, "url")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host",
        "//host/",
        "/simple/",
        "https://",
        "https:///simple/",
        "ftp://host/",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "https://host:0/",
        "https://host:99999/",
        "https://host:x/",
        "https://[::1/",
        "https://user@host/",
        "https://:@host/",
        "https://host/?q",
        "https://host/#f",
        "https://ho st/",
        "https://host/a b",
        "https://host\n/",
        "https://host/\t",
        " https://host/",
        "https://host/\u00e9",
    ],
)
def test_no_url(url):
    with pytest.raises(ValueError, match=r"^url (is|may) "):
        check_url(url, "url")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "object missing required field `root`"),
        ({"root": "x", "port": 65536}, "port is 65536: expected `int` <= 65535"),
        ({"root": "x", "port": "http"}, "port is 'http': expected `int`, got `str`"),
        ({"root": "x", "workers": 0}, "workers is 0: expected `int` >= 1"),
        ({"root": "x", "auth_read_expires": -1}, "auth_read_expires is -1: expected `int` >= 0"),
        ({"root": "x", "keepalive_timeout": float("nan")}, "keepalive_timeout is nan: expected `float` >= 0.0"),
        ({"root": "x", "access_log": "xml"}, "access_log is 'xml': invalid enum value 'xml'"),
        ({"root": "x", "tls_cert": "c"}, "--tls_cert and --tls_key go together: give both or neither"),
        ({"root": "x", "tls_key": "k"}, "--tls_cert and --tls_key go together"),
        (
            {"root": "x", "extra_index_url": "ftp://x/"},
            "extra_index_url is 'ftp://x/'; it must be an http or https URL",
        ),
        ({"root": "x", "initialize_secret": [SECRET]}, "initialize_secret: expected `str | null`, got `array`"),
    ],
)
def test_settings_that_cannot_be(values, message):
    with pytest.raises(InvalidConfigError) as raised:
        convert(values, ServerSettings, "pywharf server")
    assert str(raised.value).startswith(f"pywharf server: {message}")
    assert SECRET not in str(raised.value)


def test_settings():
    settings = convert({"root": "x", "extra_index_url": "", "port": 0}, ServerSettings, "here")
    assert (settings.extra_index_url, settings.port, settings.workers) == ("", 0, 1)
    assert (settings.auth_read_expires, settings.auth_write_expires) == (3600, 300)


def test_another_backend_s_table():
    class BucketSpec(BackendSpec, frozen=True, kw_only=True, tag="bucket"):
        bucket: Annotated[str, Meta(min_length=1)]

    specs: dict[str, type[BackendSpec]] = {**SPECS, "bucket": BucketSpec}
    assert parse_config(table("bucket = 'x'", kind="bucket"), "", specs=specs).repos == {"a": BucketSpec(bucket="x")}
    with pytest.raises(InvalidConfigError, match=r"table \[a\]: object missing required field `bucket`"):
        parse_config(table(kind="bucket"), "", specs=specs)
    with pytest.raises(
        InvalidConfigError, match="installed here are azure, bucket, file_system, gcs, github, memory, s3"
    ):
        parse_config(table(kind="pail"), "", specs=specs)


def test_specs_are_known_by_their_tags():
    assert {kind: spec.__struct_config__.tag for kind, spec in SPECS.items()} == {k: k for k in SPECS}


GITHUB = {"type": "github", "owner": "acme", "repo": "wheels"}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("owner", "-acme", "owner is '-acme': it must be a GitHub user or organisation."),
        ("owner", "a" * 40, f"owner is '{'a' * 40}': at most 39 characters are allowed, not 40."),
        ("owner", "acme\n", "owner is 'acme\\n': it must be a GitHub user or organisation."),
        ("repo", "..", "repo is '..': it must be a GitHub repository's name without its owner."),
        ("repo", "acme/wheels", "repo is 'acme/wheels': it must be a GitHub repository's name without its owner."),
        ("repo", f"https://x:{SECRET}@host/x", "repo: it must be a GitHub repository's name without its owner."),
        ("branch", "-x", "branch is '-x': it must be a branch name such as master."),
        ("index_filename", "index.xml", "index_filename is 'index.xml': it must be a file name that ends with .toml "),
        ("api_url", "ftp://x", "api_url is 'ftp://x'; it must be an http or https URL"),
        ("max_file_bytes", 0, "max_file_bytes is 0: expected `int` >= 1."),
        ("download", "push", "download is 'push': invalid enum value 'push'."),
    ],
)
def test_fault_of_a_github_table(field, value, message):
    with pytest.raises(InvalidConfigError) as raised:
        parse_spec({**GITHUB, field: value}, SPECS, "here")
    assert str(raised.value).startswith(f"here: {message}")


def test_a_spec_survives_json():
    """The operator writes a spec as JSON, and a worker reads it."""
    spec = parse_config(WHOLE, "").repos[TEAM_A]
    encoded = json.loads(msgspec.json.encode(spec))
    assert encoded.pop("type") == "file_system"
    assert parse_spec({"type": "file_system", **encoded}, SPECS, "here") == spec
