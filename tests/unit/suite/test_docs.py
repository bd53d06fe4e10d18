"""Check that the documentation keeps up with the code: it names every flag, field, error and metric."""

import re

import msgspec
import pytest

from pywharf.backends.opening import backend_types, spec_types
from pywharf.cli.flags import environment_name
from pywharf.config.cache_config import CACHES
from pywharf.config.copy_settings import CopySettings
from pywharf.config.prefetch_settings import PrefetchSettings
from pywharf.config.repo_config import AdminSecret, Upstream, UpstreamSource
from pywharf.config.settings import (
    CacheListSettings,
    CacheRemoveSettings,
    DeleteSettings,
    ExchangeSettings,
    ServerSettings,
    SetStatusSettings,
    UnyankSettings,
    UpdateIndexSettings,
    YankSettings,
)
from pywharf.serving.metrics import Metrics
from pywharf_operator.local.policy import ExplainOptions, TestOptions
from pywharf_operator.local.render_command import RenderOptions
from pywharf_operator.local.up import UpOptions
from pywharf_operator.process.options import Options
from support.error_classes import error_classes
from support.parts import CHECKOUT

DOCS = {path.name: path.read_text() for path in (CHECKOUT / "docs").glob("*.md")}


def test_every_backend_s_command_is_documented():
    sections = dict(
        re.findall(r"^## `pywharf (\S+?)`\n(.*?)(?=^## |\Z)", DOCS["commands.md"], re.MULTILINE | re.DOTALL)
    )
    missing = {
        f"{kind}.{name} --{flag}"
        for kind, backend in backend_types().items()
        for name, command in backend.commands.items()
        for flag in command.settings.__struct_fields__
        if f"`--{flag}`" not in sections.get(f"{kind}.{name}", "")
    }
    assert missing == set()


COMMANDS = [
    ServerSettings,
    UpdateIndexSettings,
    YankSettings,
    UnyankSettings,
    DeleteSettings,
    SetStatusSettings,
    CopySettings,
    CacheListSettings,
    CacheRemoveSettings,
    ExchangeSettings,
    PrefetchSettings,
    UpOptions,
    RenderOptions,
    TestOptions,
    ExplainOptions,
    Options,
]


@pytest.mark.parametrize("struct", COMMANDS)
def test_every_flag_is_documented(struct):
    named = {name.strip("`-") for name in re.findall(r"`--[a-z_]+`", DOCS["commands.md"])} | {"root", "folder"}
    assert set(struct.__struct_fields__) - named == set()


def test_every_field_of_a_repo_is_documented():
    fields = {field for spec in spec_types().values() for field in spec.__struct_fields__}
    missing = {field for field in fields if f"`{field}`" not in DOCS["commands.md"]}
    missing |= {field for field in Upstream.__struct_fields__ if f"`upstream.{field}`" not in DOCS["extra-index.md"]}
    missing |= {field for field in UpstreamSource.__struct_fields__ if f"`{field}`" not in DOCS["extra-index.md"]}
    missing |= {field for field in ("raw", "env", "file") if f"`{field}`" not in DOCS["commands.md"]}
    assert set(AdminSecret.__struct_fields__) == {"type", "raw", "env", "file"}
    assert missing == set()


@pytest.mark.parametrize("kind", CACHES)
def test_every_field_of_the_cache_is_documented(kind):
    fields = {field for field in CACHES[kind].__struct_fields__ if f"`{field}`" not in DOCS["cache-storage.md"]}
    assert fields == set()
    assert f"`{kind}`" in DOCS["cache-storage.md"]


def test_defaults_in_the_flag_table_are_the_code_s():
    rows = re.findall(r"^\| `--(\w+)` \| \w+ \| `?([\w.]+)`? \|", DOCS["commands.md"], re.MULTILINE)
    documented = dict(rows)
    actual = {field.name: field.default for field in msgspec.structs.fields(ServerSettings)}
    checked = {name for name in documented if isinstance(actual.get(name), int | float) and documented[name].isdigit()}
    assert {name: float(documented[name]) for name in checked} == {name: float(actual[name]) for name in checked}
    assert {"port", "workers", "backlog", "auth_read_expires", "auth_write_expires"} <= checked


def test_every_error_is_documented_with_its_status():
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", DOCS["http.md"], re.MULTILINE))
    actual = {error.code: str(error.status) for error in error_classes()}
    assert rows == actual


def test_every_metric_is_documented():
    metrics = Metrics()
    names = set(re.findall(r"^# TYPE (\w+) ", metrics.render().decode(), re.MULTILINE))
    assert {name for name in names if f"`{name}`" not in DOCS["operations.md"]} == set()


def test_the_environment_mode_is_documented():
    assert environment_name("port") == "PYWHARF_COMMAND_PORT"
    assert "PYWHARF_COMMAND_ROOT" in DOCS["commands.md"]


def test_links_lead_somewhere():
    broken = []
    for path in [CHECKOUT / "README.md", *(CHECKOUT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            if not (path.parent / link).exists():
                broken += [f"{path.relative_to(CHECKOUT)}: {link}"]
    assert broken == []
