"""`pywharf up` keeps what other indexes gave in its root, for repos that ask for it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.distributions.wheels import wheel
from support.server.calling import call
from support.server.up import upping
from support.server.upstream import Upstream, upstream

LABELS = {"pywharf.dev/credentials": "true"}


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Upstream]:
    with upstream() as running:
        running.credentials = "acme:hush-hush"
        running.offer("parcel", wheel(tmp_path, "parcel"))
        yield running


def manifests(folder: Path, index: Upstream) -> Path:
    sources = [{"url": index.url, "projects": ["parcel"], "credentialsSecretRef": {"name": "partner"}}]
    objects = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "partner", "labels": LABELS},
            "stringData": {"username": "acme", "password": "hush-hush"},
        },
        {
            "apiVersion": "pywharf.dev/v1alpha1",
            "kind": "PackageRepo",
            "metadata": {"name": "team-a"},
            "spec": {
                "backend": {"fileSystem": {}},
                "credentials": {"anonymousRead": True, "readOnly": True},
                "upstream": {"mode": "Cached", "sources": sources},
            },
        },
    ]
    folder.mkdir()
    (folder / "all.yaml").write_text("\n---\n".join(map(json.dumps, objects)))
    return folder


def test_what_it_kept_is_served_after_a_restart_without_the_index(index, tmp_path):
    folder, content = manifests(tmp_path / "manifests", index), (tmp_path / "parcel-1.0-py3-none-any.whl").read_bytes()
    for run in ("first", "second"):
        (tmp_path / run).mkdir()
        if run == "second":
            (tmp_path / "first" / "root").rename(tmp_path / "second" / "root")
            index.credentials = "nobody:at-all"
            index.answers.clear()
        with upping(tmp_path / run, folder) as up:
            where = f"{up.url}/repo/team-a/simple/parcel/"
            assert call(where).status == 200, up.err()
            assert call(f"{where}parcel-1.0-py3-none-any.whl").body == content
            assert call(f"{up.url}/repo/team-a/simple/other/").status == 404
            assert up.stop() == 0
            assert "hush" not in up.out() + up.err()
        assert (tmp_path / run / "root" / "upstream-cache").is_dir()
