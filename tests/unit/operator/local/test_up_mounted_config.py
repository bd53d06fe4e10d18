"""The files that `up` gives the server: private, complete, replaced atomically, removed at the end."""

import base64
import stat
from pathlib import Path

import msgspec

from pywharf.config.cache_config import FileSystemCache, parse_cache_config
from pywharf_operator.local.up.mounted_config import Delivery
from pywharf_operator.render import Finding, RenderedServer


def objects(config, **secrets):
    data = {key: base64.b64encode(value.encode()).decode() for key, value in secrets.items()}
    return RenderedServer(
        credentials=({"data": data},),
        config_map={"data": {"config.toml": config, "admin_secret.toml": ""}},
        workload=(),
        cron_jobs=(),
        config_rendered=Finding(status=True, reason="Rendered", message=""),
        contents={},
        digest="",
    )


def modes(folder):
    return {
        (stat.S_IFMT(path.lstat().st_mode), stat.S_IMODE(path.lstat().st_mode))
        for path in [folder, *folder.rglob("*")]
        if not path.is_symlink()
    }


def test_private_complete_and_gone():
    with Delivery() as delivery:
        delivery.deliver(objects("one", read="a"))
        folder = Path(delivery.config).parent
        assert Path(delivery.config).read_text() == "one"
        assert Path(delivery.admin_secret).read_text() == ""
        assert Path(delivery.credentials_folder, "read").read_text() == "a"
        assert modes(folder) == {(stat.S_IFDIR, 0o700), (stat.S_IFREG, 0o600)}
    assert not folder.exists()


def test_the_cache_s_configuration_is_beside_every_set():
    with Delivery() as delivery:
        made = objects("one")
        made.config_map["data"]["cache.toml"] = "for pods"
        delivery.deliver(made)
        delivery.write_cache({"max_bytes": 5})
        path = Path(delivery.cache_config)
        assert parse_cache_config(path.read_text()) == FileSystemCache(max_bytes=5)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        delivery.deliver(objects("two"))
        assert path.exists()
    assert not path.exists()


def test_a_set_is_replaced_atomically():
    with Delivery() as delivery:
        delivery.deliver(objects("one", read="a", write="b"))
        held = Path(delivery.config).resolve().parent
        delivery.deliver(objects("two", read="c"))
        assert Path(delivery.config).read_text() == "two"
        assert [path.name for path in Path(delivery.credentials_folder).iterdir()] == ["read"]
        # A reader of the old set can finish: the set is removed only with the second replacement.
        assert (held / "credentials" / "write").read_text() == "b"
        delivery.deliver(objects("three"))
        assert not held.exists()
        assert Path(delivery.config).read_text() == "three"


def test_the_policies_are_part_of_the_set():
    with Delivery() as delivery:
        made = objects("one", read="a")
        delivery.deliver(msgspec.structs.replace(made, policies={"data": {"policies.json": "{}"}}))
        assert Path(delivery.credentials_folder, "policies.json").read_text() == "{}"
        delivery.deliver(made)
        assert [path.name for path in Path(delivery.credentials_folder).iterdir()] == ["read"]


def test_whom_the_server_believes_lies_where_the_configuration_names_it():
    with Delivery() as delivery:
        made = objects("one")
        delivery.deliver(
            msgspec.structs.replace(made, config_map={"data": {**made.config_map["data"], "identity.json": "{}"}})
        )
        assert Path(delivery.credentials_folder, "identity.json").read_text() == "{}"
        assert {path.name for path in Path(delivery.config).resolve().parent.iterdir()} == {
            "config.toml",
            "admin_secret.toml",
            "credentials",
        }


def test_an_unchanged_set_is_left_alone():
    with Delivery() as delivery:
        delivery.deliver(objects("one"))
        before = Path(delivery.config).stat()
        delivery.deliver(objects("one"))
        assert Path(delivery.config).stat() == before
