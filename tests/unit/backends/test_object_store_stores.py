"""The stores' settings: whose identity a repo has."""

import os

import pytest

from pywharf.backends.object_store import stores
from pywharf.backends.object_store.stores import cloud_variables, make_stores
from pywharf.config.object_stores import AzureSpec, GcsSpec, ObjectStoreSpec, S3Spec
from pywharf.config.store_credentials import AzureAccountKey, AzureClient, AzureSasToken, S3Keys

AMBIENT: list[tuple[ObjectStoreSpec, set[str]]] = [
    (S3Spec(bucket="abc", ambient_identity=True), stores._AWS_IDENTITY),  # noqa: SLF001 - what is tested
    (GcsSpec(bucket="abc", ambient_identity=True), stores._GOOGLE_IDENTITY),  # noqa: SLF001
    (AzureSpec(account="abc", container="abc", ambient_identity=True), stores._AZURE_IDENTITY),  # noqa: SLF001
]
ELSEWHERE = {
    "AWS_ENDPOINT_URL_S3": "http://evil.example",
    "AWS_ENDPOINT": "http://evil.example",
    "AWS_SKIP_SIGNATURE": "true",
    "AZURE_STORAGE_ENDPOINT": "http://evil.example",
    "AZURE_STORAGE_ACCOUNT_KEY": "aHVzaA==",
    "GOOGLE_BASE_URL": "http://evil.example",
}


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    cloud_variables.cache_clear()
    yield
    cloud_variables.cache_clear()


@pytest.mark.parametrize(("spec", "names"), AMBIENT, ids=["s3", "gcs", "azure"])
def test_the_server_s_identity_is_made_of_known_variables_alone(monkeypatch, spec, names):
    for name in names:
        monkeypatch.setenv(name, "value")
    for name, value in ELSEWHERE.items():
        monkeypatch.setenv(name, value)
    ambient = stores._ambient(spec, cloud_variables())  # noqa: SLF001 - what is tested
    assert set(ambient) == {name.lower() for name in names}
    assert not any(name.startswith(("AWS_", "AZURE_", "GOOGLE_")) for name in os.environ)


@pytest.mark.parametrize("spec", [spec for spec, _ in AMBIENT], ids=["s3", "gcs", "azure"])
def test_the_library_knows_each_setting(monkeypatch, spec):
    """It refuses unknown ones."""
    for name in next(names for one, names in AMBIENT if one is spec):
        if not isinstance(spec, GcsSpec):  # its variables name files, which are read
            monkeypatch.setenv(name, "https://value.example")
    assert make_stores(spec, None).calls is not None


@pytest.mark.parametrize(
    ("spec", "credentials"),
    [
        (S3Spec(bucket="abc"), S3Keys("a", "b", "c")),
        (S3Spec(bucket="abc", endpoint="https://s3.example.com"), S3Keys("a", "b")),
        (AzureSpec(account="abc", container="abc"), AzureAccountKey("aHVzaA==")),
        (AzureSpec(account="abc", container="abc"), AzureSasToken("?sv=1&sig=hush")),
        (AzureSpec(account="abc", container="abc", endpoint="https://a.example"), AzureClient("a", "hush", "c")),
    ],
)
def test_a_repo_s_own_credentials_are_all_that_a_store_gets(monkeypatch, spec, credentials):
    for name, value in ELSEWHERE.items():
        monkeypatch.setenv(name, value)
    made = make_stores(spec, credentials)
    for store in (made.calls, made.streams):
        assert "evil" not in str(store.config)
        assert "skip_signature" not in str(store.config)
    options = dict(made.calls.client_options or {})
    assert (options.get("proxy_url") is not None) == bool(spec.endpoint)
