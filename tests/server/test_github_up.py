"""Tests of `pywharf up` with a GitHub repo's manifests, from an empty repository to an installed package."""

from pathlib import Path

import pytest
import yaml

from support.clients.computer import Computer
from support.clients.installing import install
from support.distributions.wheels import wheel
from support.github.repository import BRANCH, OWNER
from support.server.up import upping
from support.waiting import wait_for

LABEL = {"pywharf.dev/credentials": "true"}
READ, WRITE = "wheels-read-value", "wheels-write-value"
OWN = {f"{use}SecretRef": {"name": "wheels", "key": use} for use in ("read", "write")}


def manifests(kept, credentials, values, schedule="0 0 1 1 *"):
    """Return the content of the folder's only file."""
    backend = {"owner": OWNER, "repo": kept.name, "branch": BRANCH, "apiURL": kept.github.url, "download": "stream"}
    spec = {
        "backend": {"github": backend},
        "credentials": {**credentials, "backendSecretRef": {"name": "wheels", "key": "backend"}},
        "index": {"schedule": schedule, "syncIntervalSeconds": 1},
    }
    return yaml.safe_dump_all(
        [
            {
                "apiVersion": "pywharf.dev/v1alpha1",
                "kind": "PackageRepo",
                "metadata": {"name": "wheels"},
                "spec": spec,
            },
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "wheels", "labels": LABEL},
                "stringData": values,
            },
        ]
    )


@pytest.mark.parametrize("credentials", [OWN, {}], ids=["passwords", "tokens"])
def test_from_upload_to_install(github, tmp_path: Path, computer: Computer, credentials):
    """Without a PackageServer, a default one is assumed that allows any host, including this machine."""
    kept, file, folder = github.repository(), wheel(tmp_path, "parcel"), tmp_path / "manifests"
    reader, writer = (READ, WRITE) if credentials else (kept.token_of("read"), kept.token_of("write"))
    own = kept.token_of("write")
    values = {"read": READ, "write": WRITE, "backend": own}
    folder.mkdir()
    (folder / "wheels.yaml").write_text(manifests(kept, credentials, values))
    with upping(tmp_path / "up", folder) as up:
        wait_for(lambda: kept.index() is not None, "the first index")
        index = up.index("wheels", writer)
        named = (f"--username={index.user}", f"--password={index.secret}")
        computer.run("twine", "upload", "--non-interactive", f"--repository-url={index.url}", *named, file)
        for tool in ("pip", "uv"):
            python, _ = install(tool, computer, up.index("wheels", reader), "parcel", into=tool)
            assert python.installed() == {"parcel": "1.0"}
        assert b"parcel" not in (kept.index() or b"")
        # Even a schedule of every minute is too slow here, but a repo that is added again is updated immediately.
        (folder / "wheels.yaml").write_text("")
        wait_for(lambda: "wheels: no longer served" in up.out(), "the repo to be gone")
        (folder / "wheels.yaml").write_text(manifests(kept, credentials, values))
        wait_for(lambda: b"parcel" in (kept.index() or b""), "the index")
        assert "Traceback" not in up.err()
        assert not [one for one in (own, reader, writer) if one in up.out() + up.err()], "it shows secrets"
        assert up.stop() == 0
    assert kept.visible() == [file.name]
    calls = [one for one in kept.calls if one.token and one.path != "/graphql"]  # it may concern another repo
    sent = {one.token for one in calls} - {kept.admin}  # the admin made the repo and checks it
    assert sent == ({own} if credentials else {own, reader, writer})
