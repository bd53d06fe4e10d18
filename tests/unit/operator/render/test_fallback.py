"""The newest secrets reach replicas even if the configuration does not, under the old configuration's revision."""

import base64

import msgspec
import pytest

from pywharf.backends.opening import spec_types
from pywharf.serving.config_source import ConfigGiven, ConfigSource
from pywharf_operator.local.folder import default_server
from pywharf_operator.render import Environment, Snapshot, render_server, resolve
from pywharf_operator.render.objects.config_map import texts_of
from pywharf_operator.render.resolve.fallback import fallback_credentials
from pywharf_operator.spec import API_VERSION, CREDENTIALS_LABEL, ObjectMeta, PackageRepo, Secret
from support.operator.mounted_volume import ProjectedVolume

KEY = b"k"


def repo(name, namespace="pywharf", **spec):
    refs = {f"{use}SecretRef": {"name": name, "key": use} for use in ("read", "write")}
    return msgspec.convert(
        {
            "apiVersion": API_VERSION,
            "kind": "PackageRepo",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"backend": {"fileSystem": {}}, "credentials": refs, **spec},
        },
        PackageRepo,
    )


def secret(name, value):
    return Secret(
        api_version="v1",
        kind="Secret",
        metadata=ObjectMeta(name=name, namespace="pywharf", labels={CREDENTIALS_LABEL: "true"}),
        string_data={"read": f"{value}-r", "write": f"{value}-w"},
    )


class Setting:
    """A volume with one configuration, and the operator's rendering of the next one."""

    def __init__(self, folder):
        self.volume = ProjectedVolume(folder)
        folder_of_secrets = f"{self.volume.folder}/credentials"
        self.environment = Environment(
            specs=spec_types(), session_key=KEY, credentials_folder=folder_of_secrets, image="a"
        )

    def render(self, repos, **values):
        secrets = tuple(secret(name.replace("_", "-"), value) for name, value in values.items())
        found = resolve(
            Snapshot(repos=tuple(repos), servers=(default_server("pywharf"),), secrets=secrets), self.environment
        )
        return found.servers[0], render_server(found.servers[0], self.environment)

    def served(self, config_map, secrets):
        """Return the passwords, by repo, that a server reads from the volume."""
        files = {key: text.encode() for key, text in texts_of(config_map).items()}
        for one in secrets:
            files |= {f"credentials/{key}": base64.b64decode(value) for key, value in one["data"].items()}
        self.volume.deliver(files)
        where = [f"{self.volume.folder}/{name}.toml" for name in ("config", "admin_secret")]
        given = ConfigGiven(config=where[0], admin_secret=where[1])
        loaded = ConfigSource(given, spec_types()).load()
        return {name: (one.credentials.read, one.credentials.write) for name, one in loaded.repos.items()}


@pytest.fixture
def setting(tmp_path):
    return Setting(tmp_path / "volume")


OLD = {"a": ("old-a-r", "old-a-w"), "b": ("old-b-r", "old-b-w")}


def after(setting, repos, **values):
    _, old = setting.render([repo("a"), repo("b")], a="old-a", b="old-b")
    assert setting.served(old.config_map, old.credentials) == OLD
    verdict, new = setting.render(repos, **values)
    secrets = fallback_credentials(verdict, old.config_map, new.config_map, KEY)
    assert secrets == fallback_credentials(verdict, old.config_map, new.config_map, KEY)
    return setting.served(old.config_map, secrets)


def test_a_rotated_secret_arrives_and_a_new_repo_waits(setting):
    found = after(setting, [repo("a"), repo("b"), repo("c")], a="new-a", b="old-b", c="c")
    assert found == OLD | {"a": ("new-a-r", "new-a-w")}


def test_a_change_of_other_settings_withholds_no_secret(setting):
    changed = repo("a", upstream={"reserved": ["x"]}, index={"syncIntervalSeconds": 5})
    assert after(setting, [changed, repo("b")], a="new-a", b="old-b")["a"] == ("new-a-r", "new-a-w")


@pytest.mark.parametrize(("change", "arrives"), [({"download": "stream"}, True), ({"repo": "other"}, False)])
def test_a_change_of_how_files_are_sent_withholds_no_token(setting, change, arrives):
    def hub(**changed):
        backend = {"github": {"owner": "acme", "repo": "wheels", **changed}}
        return repo("a", backend=backend, credentials={"backendSecretRef": {"name": "a", "key": "read"}})

    _, old = setting.render([hub()], a="old-a")
    verdict, new = setting.render([hub(**change)], a="new-a")
    secrets = fallback_credentials(verdict, old.config_map, new.config_map, KEY)
    assert secrets is not None
    (value,) = (base64.b64decode(one["data"]["a.backend"]) for one in secrets)
    assert (value == b"new-a-r") is arrives


@pytest.mark.parametrize("case", ["deleted", "secret is gone", "another's", "another limit"])
def test_who_must_no_longer_come_in_does_not(setting, case):
    repos = {
        "deleted": [],
        "secret is gone": [repo("a")],
        "another's": [repo("x-a", repoName="a")],  # another object, which has taken over the name
        "another limit": [repo("a", backend={"fileSystem": {"maxFileBytes": 5}})],
    }[case]
    values = {} if case in {"deleted", "secret is gone"} else {"a": "new-a", "x_a": "of-another"}
    found = after(setting, [*repos, repo("b")], b="new-b", **values)
    assert found["b"] == ("new-b-r", "new-b-w")
    assert all(len(value) == 64 for value in found["a"])
    assert not {*found["a"]} & {*OLD["a"], "new-a-r", "of-another-r"}


def test_a_permission_that_was_taken_away(setting):
    credentials = {"readSecretRef": {"name": "a", "key": "read"}, "readOnly": True}
    read, write = after(setting, [repo("a", credentials=credentials), repo("b")], a="old-a", b="old-b")["a"]
    assert read == "old-a-r"
    assert write not in {"old-a-w", "new-a-w"}


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"config.toml": "", "admin_secret.toml": ""},
        {"config.toml": "[", "admin_secret.toml": ""},
        {"config.toml": 'credentials_revision = "x"', "admin_secret.toml": ""},
        {"config.toml": f'credentials_revision = "{"0" * 64}"', "admin_secret.toml": ""},
        {"config.toml": f'credentials_revision = "{"0" * 64}"\ncredentials_revision_file = 5', "admin_secret.toml": ""},
    ],
)
def test_a_foreign_configuration_gets_nothing(setting, data):
    verdict, new = setting.render([repo("a")], a="a")
    current = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "pywharf-config"}, "data": data}
    assert fallback_credentials(verdict, current, new.config_map, KEY) is None


def test_as_many_parts_as_the_old_configuration_names(setting):
    _, old = setting.render([repo("a")], a="old-a")
    names = [f"r{number}" for number in range(60)]
    verdict, new = setting.render([repo(name) for name in ["a", *names]], a="new-a", **dict.fromkeys(names, "x" * 8000))
    assert len(new.credentials) == 2
    secrets = fallback_credentials(verdict, old.config_map, new.config_map, KEY)
    assert secrets is not None
    assert len(secrets) == 1
    assert setting.served(old.config_map, secrets) == {"a": ("new-a-r", "new-a-w")}
