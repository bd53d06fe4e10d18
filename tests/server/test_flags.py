"""Tests of the flags of `pywharf server`: spellings, environment, texts instead of files, errors of wrong flags."""

import os
import subprocess
import sys
from pathlib import Path

import click
import msgspec
import pytest

from pywharf.cli.flags import environment_name
from pywharf.cli.server import server as command
from pywharf.config.settings import ServerSettings
from pywharf.core.struct_errors import convert
from support.server.calling import call
from support.server.serving import CONFIG, PYWHARF, clean_environment, running

# For every flag: a value other than the default, and the resulting setting
VALUES: dict[str, tuple[str, object]] = {
    "config": ("some/config.toml", "some/config.toml"),
    "admin_secret": ("some/admin.toml", "some/admin.toml"),
    "config_or_admin_secret_can_be_text": ("true", True),
    "auth_read_expires": ("7200", 7200),
    "auth_write_expires": ("0", 0),
    "extra_index_url": ("http://127.0.0.1/simple/", "http://127.0.0.1/simple/"),
    "debug": ("True", True),
    "host": ("::1", "::1"),
    "port": ("0", 0),
    "internal_port": ("0", 0),
    "workers": ("3", 3),
    "access_log": ("json", "json"),
    "audit_log": ("off", "off"),
    "trusted_proxies": ("10.1.2.0/24,::1", "10.1.2.0/24,::1"),
    "proxy_headers": ("true", True),
    "tls_cert": ("tls.crt", "tls.crt"),
    "tls_key": ("tls.key", "tls.key"),
    "session_secret": ("key-file", "key-file"),
    "initialize_secret": ("key-file", "key-file"),
    "backlog": ("5", 5),
    "keepalive_timeout": ("2.5", 2.5),
    "max_connections": ("100", 100),
    "max_uploads": ("3", 3),
    "max_staged_bytes": ("1000", 1000),
    "allowed_endpoints": ("index.example.com,*.example.org:8443", "index.example.com,*.example.org:8443"),
    "advisories": ("feeds/pypi.zip", "feeds/pypi.zip"),
    "advisories_interval": ("60", 60.0),
    "token_review_url": ("https://10.96.0.1", "https://10.96.0.1"),
    "token_review_token_file": ("some/token", "some/token"),
    "token_review_ca_file": ("some/ca.crt", "some/ca.crt"),
    "cache_config": ("some/cache.toml", "some/cache.toml"),
    "shutdown_delay": ("1.5", 1.5),
    "shutdown_timeout": ("0", 0.0),
}
PAIRS = {
    "tls_cert": ["--tls_key=tls.key"],
    "tls_key": ["--tls_cert=tls.crt"],
    "proxy_headers": ["--trusted_proxies=::1"],
}


def settings(*args: str) -> ServerSettings:
    """Parse these arguments into settings, without running anything."""
    with command.make_context("server", list(args)) as context:
        return convert(context.params, ServerSettings, "pywharf server")


def test_every_flag_is_tried_here():
    assert set(VALUES) == set(ServerSettings.__struct_fields__) - {"root"}
    defaults = ServerSettings(root="r")
    assert all(getattr(defaults, field) != value for field, (_, value) in VALUES.items())


@pytest.mark.parametrize("field", VALUES)
def test_each_flag_in_each_spelling(field, monkeypatch):
    """Flags may have underscores or dashes, and a value after `=` or a space. A flag overrides the environment."""
    given, expected = VALUES[field]
    dashed = field.replace("_", "-")
    more = PAIRS.get(field, [])
    is_switch = isinstance(expected, bool)
    assert getattr(settings("r"), field) == getattr(ServerSettings(root="r"), field)
    spellings = [[f"--{field}={given}"], [f"--{dashed}={given}"]]
    spellings += [[f"--{field}"], [f"--{dashed}"]] if is_switch else [[f"--{field}", given], [f"--{dashed}", given]]
    for spelling in spellings:
        assert getattr(settings("r", *spelling, *more), field) == expected, spelling
        assert getattr(settings(*spelling, *more, "r"), field) == expected, spelling
    monkeypatch.setenv(f"PYWHARF_COMMAND_{field.upper()}", given)
    assert getattr(settings("r", *more), field) == expected
    if is_switch:
        assert getattr(settings("r", f"--{field}=false"), field) is False
        assert getattr(settings("r", f"--no_{field}"), field) is False
        assert getattr(settings("r", f"--no-{dashed}"), field) is False
    elif not more and field not in {"access_log", "audit_log"}:
        of_their_own = {
            "allowed_endpoints": "another.example.com",
            "trusted_proxies": "192.0.2.7",
            "token_review_url": "https://127.0.0.2",
        }
        another = of_their_own.get(field, "http://127.0.0.2/x/")
        another = "1" if isinstance(expected, int | float) else another
        assert str(getattr(settings("r", f"--{field}={another}"), field)).removesuffix(".0") == another


@pytest.mark.parametrize(
    ("value", "expected"),
    [("True", True), ("true", True), ("1", True), ("yes", True), ("False", False), ("0", False), ("off", False)],
)
def test_switches_take_a_value_as_the_originals_did(value, expected, monkeypatch):
    assert settings("r", f"--debug={value}").debug is expected
    monkeypatch.setenv("PYWHARF_COMMAND_DEBUG", value)
    assert settings("r").debug is expected


def test_an_empty_variable_is_an_empty_text_only_where_that_means_something(monkeypatch):
    monkeypatch.setenv("PYWHARF_COMMAND_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PYWHARF_COMMAND_PORT", "")
    monkeypatch.setenv("PYWHARF_COMMAND_CONFIG", "")
    monkeypatch.setenv("PYWHARF_COMMAND_DEBUG", "")
    found = settings("r")
    assert (found.extra_index_url, found.port, found.config, found.debug) == ("", 8888, None, False)


def test_the_limits_of_numbers_are_those_of_the_settings():
    hints = msgspec.inspect.type_info(ServerSettings)
    assert isinstance(hints, msgspec.inspect.StructType)
    tried = 0
    for field in hints.fields:
        kind = field.type.type if isinstance(field.type, msgspec.inspect.Metadata) else field.type
        if not isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
            continue
        for limit, beyond in ((kind.ge, -1), (kind.le, 1)):
            if limit is None:
                continue
            tried += 1
            assert getattr(settings("r", f"--{field.name}={limit}"), field.name) == limit
            with pytest.raises(click.BadParameter) as raised:
                settings("r", f"--{field.name}={limit + beyond}")
            assert str(limit) in raised.value.message
    assert tried > 10


def pywharf(*args: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYWHARF, *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env=clean_environment({environment_name("host"): "127.0.0.1", environment_name("port"): "0"} | (env or {})),
        cwd=cwd,
    )


# Arguments ({folder} is the test's folder), words in the message
WRONG = [
    (["sevrer", "r"], ["sevrer", "server"]),
    (["nothing-like-it"], ["nothing-like-it", "update_index"]),
    (["server"], ["ROOT"]),
    (["server", "r", "another"], ["another"]),
    (["server", "r", "--prot=80"], ["--prot", "--port"]),
    (["server", "r", "--acess-log=json"], ["--acess", "--access_log"]),
    (["server", "r", "--port"], ["--port", "argument"]),
    (["server", "r", "--port=eighty"], ["--port", "eighty", "number", "65535"]),
    (["server", "r", "--port=65536"], ["--port", "65536", "65535"]),
    (["server", "r", "--port=-1"], ["--port", "-1", "0"]),
    (["server", "r", "--workers=0"], ["--workers", "0", "1"]),
    (["server", "r", "--workers=1.5"], ["--workers", "1.5", "number"]),
    (["server", "r", "--auth_read_expires=-5"], ["--auth_read_expires", "-5"]),
    (["server", "r", "--keepalive_timeout=soon"], ["--keepalive_timeout", "soon", "number"]),
    (["server", "r", "--keepalive_timeout=nan"], ["keepalive_timeout", "nan"]),
    (["server", "r", "--keepalive_timeout=inf"], ["keepalive_timeout", "inf"]),
    (["server", "r", "--max_connections=-1"], ["--max_connections", "-1"]),
    (["server", "r", "--access_log=yaml"], ["--access_log", "yaml", "json"]),
    (["server", "r", "--audit_log=text"], ["--audit_log", "text", "json"]),
    (["server", "r", "--trusted_proxies="], ["--trusted_proxies", "empty", "10.1.2.0/24"]),
    (["server", "r", "--trusted_proxies=10.0.0.1/8"], ["--trusted_proxies", "10.0.0.1/8", "host bits"]),
    (["server", "r", "--trusted_proxies=0.0.0.0/0"], ["--trusted_proxies", "every address"]),
    (["server", "r", "--trusted_proxies=ingress.example.com"], ["ingress.example.com", "no network"]),
    (["server", "r", "--proxy_headers"], ["--proxy_headers needs --trusted_proxies"]),
    (["server", "r", "--debug=perhaps"], ["--debug", "perhaps", "true"]),
    (["server", "r", "--tls_cert=x.crt"], ["--tls_cert", "--tls_key"]),
    (["server", "r", "--tls_cert=/nowhere.crt", "--tls_key=/nowhere.key"], ["/nowhere.crt", "No such file"]),
    (
        ["server", "r", "--workers=2", "--tls_cert=/nowhere.crt", "--tls_key=/nowhere.key"],
        ["/nowhere.crt", "No such file"],
    ),
    (["server", "r", "--extra_index_url=ftp://x/"], ["extra_index_url", "ftp://x/", "http"]),
    (["server", "r", "--extra_index_url=pypi"], ["extra_index_url", "pypi"]),
    (["server", "r", "--extra_index_url=http://user:hidden-pass@x/"], ["extra_index_url", "user info"]),
    (["server", "r", "--host=no.such.host.invalid"], ["--host", "no.such.host.invalid"]),
    (["server", "r", "--host=192.0.2.1"], ["--host", "192.0.2.1"]),
    (["server", "/dev/null/root"], ["ROOT", "/dev/null/root"]),
    (["server", "{folder}/a-file"], ["ROOT", "a-file"]),
    (["server", "r", "--config=/nowhere.toml"], ["--config", "/nowhere.toml", "No such file"]),
    (["server", "r", "--config={folder}"], ["--config", "directory"]),
    (["server", "r", "--config={folder}/a-file"], ["a-file", "TOML"]),
    (["server", "r", "--config={folder}/binary"], ["binary", "UTF-8"]),
    (["server", "r", "--workers=2", "--config={folder}/a-file"], ["a-file", "TOML"]),
    (["server", "r", "--admin_secret=/nowhere.toml"], ["--admin_secret", "/nowhere.toml"]),
    (["server", "r", "--admin_secret={folder}/a-file"], ["a-file", "TOML"]),
    (["server", "r", "--session_secret=/nowhere"], ["--session_secret", "No such file"]),
    (["server", "r", "--session_secret={folder}/empty"], ["--session_secret", "empty"]),
    (["server", "r", "--session_secret={folder}/binary"], ["--session_secret", "UTF-8"]),
    (["server", "r", "--initialize_secret={folder}/empty"], ["--initialize_secret", "empty"]),
    # A text where a file is expected: the error says how to give texts, and omits it, since it may hold a secret.
    (
        ["server", "r", '--config=[a]\nread_secret = "hidden-pass"'],
        ["--config", "--config_or_admin_secret_can_be_text"],
    ),
    (["server", "r", "--admin_secret=" + "hidden-pass" * 500], ["--admin_secret"]),
    (["server", "r", "--session_secret=hidden-pass"], ["--session_secret", "file"]),
    (
        ["server", "r", "--config_or_admin_secret_can_be_text", '--config=[a\nread_secret = "hidden-pass"'],
        ["--config", "TOML"],
    ),
    (
        ["server", "r", "--config_or_admin_secret_can_be_text", '--config=[a]\ntype = "tape"'],
        ["[a]", "'tape'", "file_system"],
    ),
]


@pytest.mark.parametrize("case", WRONG, ids=[" ".join(args)[:70] for args, _ in WRONG])
def test_a_wrong_flag_gets_one_line_that_says_what_is_meant(tmp_path, case):
    args, named = case
    (tmp_path / "a-file").write_text("this is no TOML\n")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    done = pywharf(*(arg.replace("{folder}", str(tmp_path)) for arg in args), cwd=tmp_path)
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr, done.stderr
    assert "hidden-pass" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith(("Usage:", "Try "))]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("Error: ")
    assert len(lines[0]) < 700
    assert [word for word in named if word not in lines[0]] == [], lines[0]


def test_a_port_that_is_taken(tmp_path):
    with running(tmp_path) as server:
        port = server.url.rpartition(":")[2]
        done = pywharf("server", "r", "--host=127.0.0.1", f"--port={port}", cwd=tmp_path)
        assert done.returncode == 2, done
        assert f"port {port}" in done.stderr
        assert "in use" in done.stderr
        assert done.stderr.count("\n") == 1
        assert call(f"{server.url}/healthz").status == 200


def test_environment_mode(tmp_path):
    """Without arguments, as in a container, environment variables give the flags and ROOT."""
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    environment = {
        "PYWHARF_COMMAND": "server",
        "PYWHARF_COMMAND_ROOT": str(tmp_path / "data"),
        "PYWHARF_COMMAND_CONFIG": str(config),
        "PYWHARF_COMMAND_HOST": "127.0.0.1",
        "PYWHARF_COMMAND_PORT": "0",
        "PYWHARF_COMMAND_EXTRA_INDEX_URL": "",
        "PYWHARF_COMMAND_ACCESS_LOG": "json",
        "PYWHARF_COMMAND_DEBUG": "True",
        # unrelated variables, which are ignored
        "PYWHARF_SERVICE_HOST": "10.0.0.1",
        "PYWHARF_PORT": "tcp://10.0.0.1:8888",
    }
    with running(tmp_path, env=environment, root=tmp_path / "data", arguments=False) as server:
        assert call(f"{server.url}/simple/", auth="demo:demo-read").status == 200
        assert (tmp_path / "data").is_dir()
        assert '"path":"/simple/"' in server.settled_text()


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"PYWHARF_COMMAND": "sevrer"}, ["sevrer", "server"]),
        ({"PYWHARF_COMMAND": "server"}, ["ROOT"]),
        ({"PYWHARF_COMMAND": "server", "PYWHARF_COMMAND_ROOT": "r", "PYWHARF_COMMAND_PORT": "x"}, ["port", "x"]),
        (
            {"PYWHARF_COMMAND": "server", "PYWHARF_COMMAND_ROOT": "r", "PYWHARF_COMMAND_DEBUG": "perhaps"},
            ["debug", "perhaps"],
        ),
        (
            {"PYWHARF_COMMAND": "server", "PYWHARF_COMMAND_ROOT": "r", "PYWHARF_COMMAND_PORTS": "80"},
            ["PYWHARF_COMMAND_PORTS", "PYWHARF_COMMAND_PORT?"],
        ),
        (
            {"PYWHARF_COMMAND": "server", "PYWHARF_COMMAND_ROOT": "r", "PYWHARF_COMMAND_ADMIN_SECRETS": "x"},
            ["PYWHARF_COMMAND_ADMIN_SECRETS", "PYWHARF_COMMAND_ADMIN_SECRET?"],
        ),
    ],
)
def test_a_wrong_environment_gets_a_line_that_says_what_is_meant(tmp_path, environment, named):
    done = pywharf(env=environment, cwd=tmp_path)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert [word for word in named if word not in line] == [], line


def test_the_environment_fills_in_for_flags_that_are_not_given(tmp_path):
    environment = {environment_name("port"): "1", environment_name("access_log"): "off"}
    with running(tmp_path, ["--port=0"], env=environment) as server:
        assert call(f"{server.url}/simple/", auth="demo:demo-read").status == 200
        assert server.stop() == 0
        assert "/simple/" not in server.text()


def test_texts_in_place_of_files(tmp_path):
    admin = '[demo]\ntype = "file_system"\nraw = "demo-admin"\n'
    flags = [
        "--config_or_admin_secret_can_be_text=True",
        f"--config={CONFIG}",
        f"--admin_secret={admin}",
        "--session_secret=" + "session-key" * 100,  # longer than a path may be
        "--initialize_secret=initialize-key",
    ]
    with running(tmp_path, flags, config=None) as server:
        server.secrets |= {"demo-admin", "demo-read", "session-key", "initialize-key"}
        assert call(f"{server.url}/simple/", auth="demo:demo-read").status == 200
        assert call(f"{server.url}/initialize/", "POST", headers={"Authorization": "Bearer x"}).status == 401
        command_line = Path(f"/proc/{server.process.pid}/cmdline")
        assert command_line.exists()


def test_a_file_goes_before_a_text_where_both_are_possible(tmp_path):
    with running(tmp_path, ["--config_or_admin_secret_can_be_text"]) as server:
        assert call(f"{server.url}/simple/", auth="demo:demo-read").status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_host(tmp_path, host):
    if host == "::1" and not Path("/proc/net/if_inet6").read_text():
        pytest.skip("needs IPv6 on loopback")
    with running(tmp_path, [f"--host={host}"]) as server:
        assert call(f"{server.url}/healthz").status == 200
        assert server.url.startswith("http://[::1]:" if host == "::1" else "http://127.0.0.1:")


def test_help_shows_types_defaults_and_an_example(tmp_path):
    for flag in ("--help", "-h"):
        done = pywharf("server", flag)
        assert done.returncode == 0
        text = " ".join(done.stdout.split())
        for field, value in msgspec.structs.asdict(ServerSettings(root="r")).items():
            assert field == "root" or f"--{field}" in text, field
            if isinstance(value, str | int | float) and not isinstance(value, bool) and field != "root":
                assert f"default: {value}" in text, field
        assert "Example: pywharf server" in text
    everything = pywharf("--help").stdout
    for name in ("server", "update_index", "render", "up"):
        assert f"  {name} " in everything
    assert "\\b" not in everything
    for name in ("update-index", "update_index"):
        assert pywharf(name, "--help").returncode == 0


def test_version():
    done = pywharf("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("pywharf, version ")


def test_it_runs_as_a_module_of_any_folder(tmp_path):
    """The command needs nothing from the folder in which it is started."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from pywharf.cli.main import main; sys.argv[1:] = ['--version']; main()"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done
