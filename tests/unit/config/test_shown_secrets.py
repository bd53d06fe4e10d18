"""Check that no struct shows a secret when it is printed, in a log or in a traceback."""

import pathlib
import socket

import pytest

from pywharf.backends.github.settings import GenGhPagesSettings, InitPkgRepoSettings
from pywharf.backends.opening import spec_types
from pywharf.backends.registration import OpenBackend
from pywharf.cli.repo_target import RepoTarget
from pywharf.cli.shared import Shared
from pywharf.config.repo_config import FileSystemSpec, parse_config
from pywharf.config.settings import ServerSettings, UpdateIndexSettings, YankSettings
from pywharf.core.access.secrets import Credentials
from pywharf.core.names import RepoName
from pywharf.egress.policy import Egress
from pywharf.serving.config_source import ConfigGiven, SubmittedConfig
from pywharf.serving.definitions import LoadedConfig, RepoDefinition
from pywharf.web.auth import Sent

SECRET = "a-secret-that-nobody-may-see"
TABLE = '[demo]\ntype = "file_system"\n'
SPEC = FileSystemSpec(read_secret=SECRET, write_secret=SECRET, owner="team/demo")
DEFINITION = RepoDefinition(SPEC, Credentials(read=SECRET, write=SECRET), SECRET)


@pytest.mark.parametrize(
    "struct",
    [
        SPEC,
        DEFINITION,
        DEFINITION.credentials,
        LoadedConfig({RepoName("demo"): DEFINITION}, "digest"),
        parse_config(f'{TABLE}read_secret = "{SECRET}"\n', f'{TABLE}raw = "{SECRET}"\n', specs=spec_types()),
        ServerSettings(
            root="root", config=SECRET, admin_secret=SECRET, session_secret=SECRET, initialize_secret=SECRET
        ),
        UpdateIndexSettings(secret=SECRET, config=SECRET, admin_secret=SECRET),
        YankSettings(secret=SECRET, config=SECRET, admin_secret=SECRET),
        RepoTarget(RepoName("demo"), SPEC, pathlib.Path(), SECRET, Egress()),
        InitPkgRepoSettings(name="a", owner="b", repo="c", secret=SECRET, workflow_secret=SECRET),
        GenGhPagesSettings(owner="b", repo="c", secret=SECRET),
        ConfigGiven(config=SECRET, admin_secret=SECRET, can_be_text=True),
        SubmittedConfig(SECRET, SECRET),
        Sent(RepoName("demo"), SECRET),
        OpenBackend(SPEC, RepoName("demo"), pathlib.Path(), SECRET),
    ],
    ids=lambda struct: type(struct).__name__,
)
def test_no_secret_is_shown(struct):
    for shown in (repr(struct), str(struct), f"{struct}", repr({"x": [struct]})):
        assert SECRET not in shown


def test_what_workers_share_is_not_shown():
    with socket.socket() as listener:
        shared = Shared(listener, None, pathlib.Path(), SECRET.encode(), SECRET)
        assert SECRET not in repr(shared)


def test_what_is_no_secret_is_shown():
    assert "owner='team/demo'" in repr(SPEC)
    assert "port=8888" in repr(ServerSettings(root="root"))
