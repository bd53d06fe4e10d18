"""How the operator reaches the API server: directly or through a proxy, its client and kopf alike."""

import pytest

from pywharf_operator.cluster.login import connect
from pywharf_operator.watching.registry import _login

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: a
contexts: [{{name: a, context: {{cluster: a, user: a}}}}]
clusters: [{{name: a, cluster: {{server: "{server}", insecure-skip-tls-verify: true{more}}}}}]
users: [{{name: a, user: {{token: abc}}}}]
"""
PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("server", "no_proxy", "more", "proxy"),
    [
        ("https://10.96.0.1:443", "", "", PROXY),
        ("https://10.96.0.1:443", "10.96.0.0/12", "", None),
        ("https://10.96.0.1:443", "10.0.0.0/16,.svc,.cluster.local", "", PROXY),
        ("https://[fd00:10:96::1]:443", "fd00:10:96::/112", "", None),
        ("https://api.corp.example:6443", "corp.example", "", None),
        ("https://api.corp.example:6443", "api.corp.example:443", "", PROXY),
        ("https://127.0.0.1:6443", "", "", None),
    ],
)
async def test_the_proxy(tmp_path, monkeypatch, server, no_proxy, more, proxy):
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG.format(server=server, more=more))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    client = await connect()
    try:
        assert client.configuration.host == server
        assert client.configuration.proxy == proxy
        session = client.rest_client.pool_manager or client.rest_client._create_pool_manager()  # noqa: SLF001 - the client's own
        async with session:
            assert not session.trust_env
    finally:
        await client.close()
    found = await _login()
    assert found.proxy_url == proxy
    assert not found.trust_env
