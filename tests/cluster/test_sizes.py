"""How much configuration a real API server and its etcd accept, compared with the limits of rendering."""

import pytest

from pywharf_operator.local.folder import default_server
from pywharf_operator.render.objects.config_map import config_map
from pywharf_operator.render.objects.credentials import credentials_secrets
from pywharf_operator.render.resolve.object_sizes import LARGE_BYTES, MAX_BYTES, config_rendered, size_of
from pywharf_operator.spec.kinds import SECRET
from support.cluster.kube_client import APPLY, ApiError, KubeClient


def apply(kube: KubeClient, secret, **query: str):
    path = SECRET.path(secret["metadata"]["namespace"], secret["metadata"]["name"])
    kube.request("PATCH", path, secret, APPLY, fieldManager="tests", force="true", fieldValidation="Strict", **query)


@pytest.mark.parametrize(
    ("keys", "value_bytes"), [(11_000, 20), (62, 16 * 1024)], ids=["short secrets", "long secrets"]
)
def test_a_shard_below_the_limit_is_taken(kube, namespace, keys, value_bytes):
    """etcd accepts the shard, too, including its managedFields, which grow with the keys."""
    content = {f"a-repo-of-some-team-{number}.read": b"x" * value_bytes for number in range(keys)}
    (secret,) = credentials_secrets(default_server(namespace), (content,), "0" * 64)
    assert LARGE_BYTES < size_of(secret) < MAX_BYTES
    apply(kube, secret)


def test_our_limit_is_not_above_the_api_s(kube, namespace):
    server = default_server(namespace)

    def of_size(size):
        (empty,) = credentials_secrets(server, ({"a.read": b""},), "0" * 64)
        (made,) = credentials_secrets(server, ({"a.read": b"x" * (size - size_of(empty))},), "0" * 64)
        assert size_of(made) == size
        return made

    texts = config_map(server, "", "")
    largest = of_size(MAX_BYTES)
    assert config_rendered(texts, (largest,)).status is True
    apply(kube, largest, dryRun="All")
    assert config_rendered(texts, (of_size(MAX_BYTES + 1),)).status is False
    with pytest.raises(ApiError, match="Too long"):
        apply(kube, of_size(MAX_BYTES + 100), dryRun="All")
