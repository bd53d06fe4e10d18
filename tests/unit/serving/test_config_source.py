"""Check how configuration and secrets are read: each fault names the flag or field, the place and the remedy."""

import pytest

from pywharf.backends.opening import spec_types
from pywharf.core.errors import IncompleteConfigError, InvalidConfigError
from pywharf.core.names import RepoName
from pywharf.core.struct_errors import convert
from pywharf.index.upstream.source import SourceCredentials
from pywharf.serving.config_source import ConfigGiven, ConfigSource, SubmittedConfig
from pywharf.serving.definitions import LoadedConfig

A = RepoName("a")
CONFIG = '[a]\ntype = "file_system"\n'


@pytest.fixture
def load(tmp_path):
    def load(config: str | bytes | None, admin_secret: str | None = None, *, text: bool = False) -> LoadedConfig:
        given = {"config": config, "admin_secret": admin_secret}
        flags: dict[str, str] = {}
        for name, content in given.items():
            if content is None:
                continue
            if text:
                flags[name] = str(content)
                continue
            path = tmp_path / f"{name}.toml"
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            flags[name] = str(path)
        source = convert({"can_be_text": text, **flags}, ConfigGiven, "here")
        return ConfigSource(source, spec_types()).load()

    return load


def test_entries_that_stay_the_same_are_not_compiled_again(tmp_path):
    """Also if another repo changed: what the entries of one repo cost is paid once."""
    path, same, changed = tmp_path / "config.toml", RepoName("same"), RepoName("changed")
    digests = [f"sha256:{digit * 64}" for digit in "ab"]
    entry = '[[{}.access]]\nname = "ci"\npermission = "Read"\ntoken_digests = ["{}"]\n'
    source = ConfigSource(ConfigGiven(config=str(path)), spec_types())
    loaded = []
    for digest in digests:
        repos = {same: digests[0], changed: digest}
        path.write_text("".join(f'[{name}]\ntype = "memory"\n{entry.format(name, one)}' for name, one in repos.items()))
        loaded.append({name: one.credentials.entries for name, one in source.load().repos.items()})
    before, after = loaded
    assert after[same] is before[same]
    assert after[changed] != before[changed]


def test_secrets_from_everywhere(load, tmp_path, monkeypatch):
    monkeypatch.setenv("A_SECRET", "from the environment")
    (tmp_path / "secret").write_text("from a file\n")
    loaded = load(
        f'{CONFIG}read_secret = {{env = "A_SECRET"}}\nwrite_secret = {{file = "{tmp_path}/secret"}}',
        f'{CONFIG}raw = "in the text"',
    )
    definition = loaded.repos[A]
    assert definition.credentials.read == "from the environment"
    assert definition.credentials.write == "from a file"
    assert definition.admin_secret == "in the text"
    for secret in ("from the environment", "from a file", "in the text"):
        assert secret not in repr(loaded)
        assert secret not in repr(definition)


def test_credentials_of_sources(load, tmp_path):
    (tmp_path / "password").write_text("from a file\n")
    source = f'{{url = "https://a.example/", username = "ci", password = {{file = "{tmp_path}/password"}}}}'
    loaded = load(f'{CONFIG}upstream.sources = [{{url = "https://b.example/"}}, {source}]')
    definition = loaded.repos[A]
    assert definition.source_credentials == (None, SourceCredentials("ci", "from a file"))
    assert "from a file" not in repr(loaded)
    (tmp_path / "password").write_text("another\n")
    changed = load(f'{CONFIG}upstream.sources = [{{url = "https://b.example/"}}, {source}]').repos[A]
    assert not definition.is_same_but_for_credentials(changed)


def test_a_client_names_no_file_of_a_source(load):
    config = f'{CONFIG}upstream.sources = [{{url = "https://a/", username = "ci", password = {{file = "/etc/x"}}}}]'
    with pytest.raises(InvalidConfigError, match=r"upstream\.sources\[0\]\.password names a file or variable"):
        ConfigSource(ConfigGiven(), spec_types()).load_submitted(SubmittedConfig(config))


@pytest.mark.parametrize(
    ("content", "secret"),
    [("x", "x"), ("x\n", "x"), ("x\r\n", "x"), ("x\n\n", "x"), (" x ", " x "), ("x\ny", "x\ny")],
)
def test_end_of_line_in_a_secret_s_file(load, tmp_path, content, secret):
    (tmp_path / "secret").write_bytes(content.encode())
    loaded = load(f'{CONFIG}read_secret = {{file = "{tmp_path}/secret"}}')
    assert loaded.repos[A].credentials.read == secret


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty or not set; give the secret there"),
        (b"\n", "is empty or not set"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_fault_of_a_secret_s_file(load, tmp_path, content, said):
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidConfigError) as raised:
        load(f'{CONFIG}write_secret = {{file = "{path}"}}')
    assert "table [a], write_secret: the file" in str(raised.value)
    assert str(path) in str(raised.value)
    assert said in str(raised.value)


@pytest.mark.parametrize("value", [None, ""])
def test_fault_of_a_secret_s_variable(load, monkeypatch, value):
    monkeypatch.delenv("A_SECRET", raising=False)
    if value is not None:
        monkeypatch.setenv("A_SECRET", value)
    with pytest.raises(InvalidConfigError) as raised:
        load(CONFIG, f'{CONFIG}env = "A_SECRET"')
    assert str(raised.value) == (
        "table [a], admin_secret: the environment variable A_SECRET is empty or not set; give the secret there."
    )


def test_secret_of_no_letters(load):
    with pytest.raises(InvalidConfigError, match=r"table \[a\], read_secret: it is empty or not set; give the secret"):
        load(f'{CONFIG}read_secret = ""')


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe", "is not UTF-8 text."),
        (b"a = ", "config.toml is not valid TOML: Invalid value (at end of document)."),
        (b"[a]\n", "config.toml, table [a]: type is missing; name one of azure, file_system, gcs, github, memory, s3."),
    ],
)
def test_fault_of_the_file(load, tmp_path, content, said):
    with pytest.raises(InvalidConfigError) as raised:
        load(content)
    assert str(tmp_path / "config.toml") in str(raised.value)
    assert str(raised.value).endswith(said)


@pytest.mark.parametrize("flag", ["config", "admin_secret"])
def test_file_that_is_not_there(tmp_path, flag):
    given = convert({flag: str(tmp_path / "nothing")}, ConfigGiven, "here")
    with pytest.raises(InvalidConfigError) as raised:
        ConfigSource(given, spec_types()).load()
    assert str(raised.value) == (
        f"--{flag}: the file {tmp_path / 'nothing'} cannot be read: No such file or directory."
    )


def test_texts_where_they_are_allowed(load):
    loaded = load(f'{CONFIG}read_secret = "x"', f'{CONFIG}raw = "y"', text=True)
    assert (loaded.repos[A].credentials.read, loaded.repos[A].admin_secret) == ("x", "y")
    with pytest.raises(InvalidConfigError, match="--config is not valid TOML"):
        load("a = ", text=True)


def test_a_text_where_it_is_not_allowed():
    given = ConfigGiven(config=f'{CONFIG}read_secret = "sesame"')
    with pytest.raises(InvalidConfigError) as raised:
        ConfigSource(given, spec_types()).load()
    assert str(raised.value).startswith("--config")
    assert "sesame" not in str(raised.value)


@pytest.mark.parametrize("found", [None, "0123", "4567"])
def test_secrets_that_have_not_arrived(load, tmp_path, found):
    revision = tmp_path / "revision"
    if found is not None:
        revision.write_text(f"{found}\n")
    config = f'credentials_revision = "4567"\ncredentials_revision_file = "{revision}"\n{CONFIG}'
    if found == "4567":
        assert load(config).repos.keys() == {A}
    elif found == "0123":
        with pytest.raises(IncompleteConfigError, match="are of the revision '0123', the configuration needs '4567'"):
            load(config)
    else:
        with pytest.raises(IncompleteConfigError, match=r"have not all arrived: there is no .*revision yet"):
            load(config)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (f'{CONFIG}read_secret = {{env = "HOME"}}', "read_secret names a file or variable; /initialize/ takes texts"),
        (f'{CONFIG}read_secret = {{file = "/etc/passwd"}}', "read_secret names a file or variable"),
        (
            f'credentials_revision_file = "/etc/passwd"\n{CONFIG}',
            "credentials_revision_file is not taken by /initialize/",
        ),
    ],
)
def test_a_client_names_no_file(config, said):
    source = ConfigSource(ConfigGiven(), spec_types())
    with pytest.raises(InvalidConfigError) as raised:
        source.load_submitted(SubmittedConfig(config, ""))
    assert said in str(raised.value)
    with pytest.raises(InvalidConfigError, match="admin_secret names a file or variable"):
        source.load_submitted(SubmittedConfig(CONFIG, f'{CONFIG}file = "/etc/passwd"'))
    assert "sesame" not in repr(SubmittedConfig('raw = "sesame"', "sesame"))


@pytest.mark.parametrize("names_policies", [True, False])
def test_a_client_does_not_end_the_policies_of_a_text(names_policies):
    text = f'policies_file = "/policies.json"\n{CONFIG}' if names_policies else CONFIG
    source = ConfigSource(ConfigGiven(config=text, can_be_text=True), spec_types())
    assert source.takes_submissions
    if names_policies:
        with pytest.raises(InvalidConfigError, match="names a policies_file, whose policies a submitted one would end"):
            source.load_submitted(SubmittedConfig(CONFIG, ""))
    else:
        assert source.load_submitted(SubmittedConfig(CONFIG, "")).repos.keys() == {A}
