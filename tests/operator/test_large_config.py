"""A configuration too large for one object: compressed, split, delivered whole, the newest repos refused."""

import base64
import functools
import gzip
import re
import secrets
import string
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.cluster.kube_client import Json, KubeClient
from support.cluster.resources import apply, condition, path, repo, server, wait_for_condition
from support.operator import operating
from support.operator.mounted_volume import ProjectedVolume
from support.operator.scale import until_quiet
from support.server.asking import index_status
from support.server.serving import running
from support.waiting import wait_for

COUNT = 100
RESERVED = [f"an-organisation-has-many-names-for-its-packages-{number}-*" for number in range(200)]
"""About 11 KB of text in each repo's table; 100 repos exceed 1 MiB."""
PADDING = "p" * 15_000
WHERE = "packageservers"
ALPHABET = string.ascii_lowercase + string.digits


def large_secret(name: str, size: int) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": {"pywharf.dev/credentials": "true"}},
        "stringData": {"read": f"{name}-{PADDING[:size]}", "write": f"{name}-w-{PADDING[:size]}"},
    }


def _serves(url: str, repo_name: str, secret: str) -> bool:
    return index_status(url, repo_name, secret) == 200


def objects(kube: KubeClient, namespace: str) -> dict[str, Any]:
    """Return the contents of the ConfigMap and the Secrets by name."""
    found = kube.get(path("configmaps", namespace, "pywharf-config", "/api/v1")) or {}
    made: dict[str, Any] = {"config": [found.get("data"), found.get("binaryData")]}
    for one in kube.list(path("secrets", namespace, group="/api/v1"), labelSelector="pywharf.dev/server=pywharf"):
        if one["metadata"]["name"].startswith("pywharf-credentials"):
            made[one["metadata"]["name"]] = one["data"]
    return made


def files(made: dict[str, Any]) -> dict[str, bytes]:
    """Return the files as the kubelet projects them into a pod."""
    data, binary = made["config"]
    found = {key: text.encode() for key, text in (data or {}).items()}
    found |= {key: base64.b64decode(text) for key, text in (binary or {}).items()}
    for name in sorted((name for name in made if name != "config"), reverse=True):
        found |= {key: base64.b64decode(value) for key, value in made[name].items()}
    return found


def config_of(made: dict[str, Any]) -> str:
    data, binary = made["config"]
    if binary:
        return gzip.decompress(base64.b64decode(binary["config.toml.gz"])).decode()
    return str((data or {}).get("config.toml", ""))


def consistent(made: dict[str, Any], names: list[str]) -> bool:
    """Return whether all objects have the same revision and contain these repos."""
    text = config_of(made)
    revision = text.partition('credentials_revision = "')[2].partition('"')[0]
    shards = [made[name] for name in made if name != "config"]
    revisions = [base64.b64decode(value).decode() for one in shards for key, value in one.items() if "revision" in key]
    return set(revisions) == {revision} and all(f"[{name}]" in text for name in names)


@pytest.mark.timeout(180)
def test_it_is_compressed_and_spread_and_the_newest_are_refused_past_the_limit(cluster, kube, namespace, tmp_path):
    names = [f"team-{number}" for number in range(COUNT)]
    apply(kube, namespace, server(limits={"repoTableBytes": 65_536}))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: apply(kube, namespace, large_secret(name, 10), large_repo(name)), names))
    with operating.operating(tmp_path / "operator", operating.grant(cluster, namespace), namespace) as operator:
        operator.secrets.add(PADDING)
        shards = {"pywharf-credentials"}
        small = settled(kube, namespace, names, shards, 10)
        assert small["config"][0] is None  # the text exceeds 768 KiB, the stored data does not
        assert len(config_of(small)) > 1024 * 1024

        rotate(kube, namespace, names, 5_000)
        spread = settled(kube, namespace, names, shards | {"pywharf-credentials-1"}, 5_000)
        serves_all(tmp_path, spread)

        # Text that does not compress: the newest repos are refused, the others are still served.
        reserve(kube, namespace, names, hard=True)
        found = wait_for_condition(
            kube, path(WHERE, namespace, "pywharf"), "ConfigRendered", "True", reason="ReposRefused"
        )
        until_quiet(operator)
        found = kube.get(path(WHERE, namespace, "pywharf"))
        message = condition(found, "ConfigRendered")["message"]
        count = re.match(r"(\d+) repos are refused", message)
        assert count, message
        assert f"{count[1]} of {namespace}" in message
        out = [name for name in names if accepted(kube, namespace, name) == "ServerFull"]
        assert len(out) == int(count[1])
        assert 20 < len(out) < 60  # 100 repos of some 14 KiB each once compressed; 1 MiB holds 70
        left = [name for name in names if name not in out]
        wait_for(lambda: consistent(objects(kube, namespace), left), "the others' configuration", longest_s=60)
        assert all(f"[{name}]" not in config_of(objects(kube, namespace)) for name in out)
        rotated_secret = large_secret(left[0], 20)
        apply(kube, namespace, rotated_secret)
        wanted = rotated_secret["stringData"]["read"].encode()
        wait_for(
            lambda: files(objects(kube, namespace)).get(f"{left[0]}.read") == wanted, "a rotated secret", longest_s=60
        )
        # The credentials are written first, then the configuration that names them.
        wait_for(lambda: consistent(objects(kube, namespace), left), "its configuration", longest_s=60)

        reserve(kube, namespace, names, hard=False)
        rotate(kube, namespace, names, 5_000)
        settled(kube, namespace, names, shards | {"pywharf-credentials-1"}, 5_000)
        rotate(kube, namespace, names, 10)
        assert settled(kube, namespace, names, shards, 10) == small


def accepted(kube: KubeClient, namespace: str, name: str) -> str:
    return str(condition(kube.get(path("packagerepos", namespace, name)), "Accepted").get("reason"))


def large_repo(name: str) -> Json:
    return repo(name, upstream={"mode": "None", "reserved": RESERVED}, index={"suspend": True})


def random_text() -> str:
    """Return a text that compresses to no less than two thirds."""
    return "".join(secrets.choice(ALPHABET) for _ in range(80))


def reserve(kube: KubeClient, namespace: str, names: list[str], *, hard: bool) -> None:
    def change(name: str) -> None:
        one = large_repo(name)
        if hard:
            one["spec"]["upstream"]["reserved"] = [f"{random_text()}-*" for _ in range(256)]
        apply(kube, namespace, one)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(change, names))


def rotate(kube: KubeClient, namespace: str, names: list[str], size: int) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: apply(kube, namespace, large_secret(name, size)), names))


def settled(kube: KubeClient, namespace: str, names: list[str], shards: set[str], size: int) -> dict[str, Any]:
    """Wait until exactly these Secrets hold the credentials. Returns the contents of all objects."""
    made: dict[str, Any] = {}

    def fits() -> bool:
        nonlocal made
        made = objects(kube, namespace)
        return set(made) - {"config"} == shards and consistent(made, names) and rotated(made, names, size)

    wait_for(fits, f"the shards {sorted(shards)}", longest_s=60)
    wait_for_condition(kube, path(WHERE, namespace, "pywharf"), "ConfigRendered", "True")
    return made


def rotated(made: dict[str, Any], names: list[str], size: int) -> bool:
    """Return whether each repo's secret has the values of `large_secret`."""
    found = files(made)
    return all(found.get(f"{name}.read") == large_secret(name, size)["stringData"]["read"].encode() for name in names)


def serves_all(tmp_path: Any, made: dict[str, Any]) -> None:
    """Check that a real server accepts the files and serves a repo of each shard."""
    volume = ProjectedVolume(tmp_path / "volume")
    found = files(made)
    folder = tmp_path / "volume"
    key = "config.toml.gz"
    text = gzip.decompress(found[key]).decode().replace("/etc/pywharf", str(folder))
    volume.deliver({**found, key: gzip.compress(text.encode())})
    with running(tmp_path / "server", [f"--config={folder / key}"], config=None) as process:
        for shard, data in made.items():
            if shard != "config":
                key = next(one for one in data if one.endswith(".read"))
                name, value = key.removesuffix(".read"), base64.b64decode(data[key]).decode()
                wait_for(functools.partial(_serves, process.url, name, value), shard)
                assert index_status(process.url, name, "wrong") == 401, shard
