"""Tests of `pywharf up` with the manifests of a repo in a bucket, from an empty prefix to an installed package."""

from pathlib import Path
from typing import Any

import yaml

from support.clients.computer import Computer
from support.clients.installing import install
from support.distributions.wheels import wheel
from support.object_stores.store import ObjectStore
from support.server.up import upping
from support.waiting import wait_for

READ, WRITE = "wheels-read-value", "wheels-write-value"


def manifests(s3: ObjectStore, prefix: str, values: dict[str, str]) -> str:
    """Return the content of the folder's only file. The repo names the secrets that `values` has."""
    where: dict[str, Any] = {"bucket": s3.place["bucket"], "prefix": prefix, "endpoint": s3.endpoint, "allowHTTP": True}
    refs = {f"{use}SecretRef": {"name": "wheels", "key": use} for use in values}
    return yaml.safe_dump_all(
        [
            {
                "apiVersion": "pywharf.dev/v1alpha1",
                "kind": "PackageRepo",
                "metadata": {"name": "wheels"},
                "spec": {"backend": {"s3": where}, "credentials": refs, "index": {"schedule": "0 0 1 1 *"}},
            },
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "wheels", "labels": {"pywharf.dev/credentials": "true"}},
                "stringData": values,
            },
        ]
    )


def test_from_upload_to_install(s3: ObjectStore, tmp_path: Path, computer: Computer):
    """Without a PackageServer any host may be named, but nobody's own identity is lent."""
    file, folder = wheel(tmp_path, "parcel"), tmp_path / "manifests"
    prefix, clients = s3.table()["prefix"], {"read": READ, "write": WRITE}
    folder.mkdir()
    manifest = folder / "wheels.yaml"
    manifest.write_text(manifests(s3, prefix, clients))
    with upping(tmp_path / "up", folder) as up:
        wait_for(lambda: "AmbientIdentityNotAllowed" in up.err(), "the refusal of a repo without keys")
        manifest.write_text(manifests(s3, prefix, clients | {"backend": 'access_key_id = "hush"'}))
        wait_for(lambda: "lacks secret_access_key" in up.err(), "the refusal of half a key")
        manifest.write_text(manifests(s3, prefix, clients | {"backend": s3.secret}))
        wait_for(lambda: "wheels (PackageRepo default/wheels)" in up.out(), "the repo to be served")
        index = up.index("wheels", WRITE)
        flags = ("--non-interactive", f"--repository-url={index.url}")
        computer.run("twine", "upload", *flags, "--username=wheels", f"--password={WRITE}", file)
        for tool in ("pip", "uv"):
            python, _ = install(tool, computer, up.index("wheels", READ), "parcel", into=tool)
            assert python.installed() == {"parcel": "1.0"}
        shown = up.out() + up.err()
        assert "Traceback" not in shown
        hidden = [READ, WRITE, "hush", *(line.split('"')[1] for line in s3.secret.splitlines())]
        assert not [text for text in hidden if text in shown], "it shows secrets"
        assert up.stop() == 0
    assert (s3.folder / prefix / "storage" / "parcel" / file.name).read_bytes() == file.read_bytes()
    assert (s3.folder / prefix / "index.json").is_file()
