"""The tables of repos in a bucket, and the secrets of the stores."""

import json

import pytest

from pywharf.backends.opening import spec_types
from pywharf.config.repo_config import parse_spec
from pywharf.config.store_credentials import (
    AzureAccountKey,
    AzureClient,
    AzureSasToken,
    S3Keys,
    parse_azure_credentials,
    parse_gcs_service_account,
    parse_s3_keys,
)
from pywharf.core.errors import InvalidConfigError

REQUIRED = {
    "s3": {"bucket": "wheels"},
    "gcs": {"bucket": "wheels"},
    "azure": {"account": "acme", "container": "wheels"},
}
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
SERVICE_ACCOUNT = {
    "type": "service_account",
    "client_email": "a@b.iam.gserviceaccount.com",
    "private_key": "-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----\n",
    "private_key_id": "0123",
    "token_uri": "https://evil.example/token",
}


@pytest.mark.parametrize("kind", REQUIRED)
@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("prefix", "team-a", "prefix is 'team-a': it must be empty, or folders"),
        ("prefix", "../", "prefix is '../'"),
        ("prefix", "a/../", "prefix is 'a/../'"),
        ("prefix", "/a/", "prefix is '/a/'"),
        ("prefix", "a\x00/", "prefix is "),
        (
            "endpoint",
            "https://u:hush@s3.example.com",
            "endpoint: it must be empty, or an http or https URL without user",
        ),
        ("endpoint", "http://s3.example.com", "endpoint is plain http; use https, or set allow_http = true"),
        ("endpoint", "ftp://s3.example.com", "endpoint is 'ftp://s3.example.com'"),
        ("ca_bundle", "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----", "it must hold certificates"),
        ("download", "pigeon", "download is 'pigeon'"),
        ("poll_interval", 0, "poll_interval is 0"),
    ],
)
def test_a_wrong_field_is_named(kind, field, value, said):
    with pytest.raises(InvalidConfigError) as raised:
        parse_spec({"type": kind, **REQUIRED[kind], field: value}, spec_types(), "here")
    assert said in str(raised.value)
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize("kind", REQUIRED)
def test_a_table_with_all_fields_is_taken(kind):
    table = {"prefix": "python/team-a/", "endpoint": "http://s3.example.com:9000", "allow_http": True}
    spec = parse_spec(
        {"type": kind, **REQUIRED[kind], **table, "ca_bundle": CERTIFICATE, "download": "stream"}, spec_types(), "here"
    )
    assert spec.index_name == "index.json"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"type": "s3", "bucket": "B"}, "bucket is 'B'"),
        ({"type": "s3", "bucket": "a/b"}, "bucket is 'a/b'"),
        ({"type": "s3", "bucket": "abc", "region": "eu west"}, "region is 'eu west'"),
        ({"type": "azure", "account": "a.b", "container": "abc"}, "account is 'a.b'"),
        ({"type": "azure", "account": "abc", "container": "$root"}, "container is '$root'"),
        ({"type": "s3"}, "bucket"),
    ],
)
def test_a_bucket_has_a_form(table, said):
    with pytest.raises(InvalidConfigError, match=r"here: ") as raised:
        parse_spec(table, spec_types(), "here")
    assert said in str(raised.value)


def test_secrets_that_are_complete():
    assert parse_s3_keys('access_key_id = "a"\nsecret_access_key = "b"') == S3Keys("a", "b")
    assert parse_s3_keys('access_key_id = "a"\nsecret_access_key = "b"\nsession_token="c"') == S3Keys("a", "b", "c")
    assert parse_azure_credentials('account_key = "a"') == AzureAccountKey("a")
    assert parse_azure_credentials('sas_token = "sv=1&sig=2"') == AzureSasToken("sv=1&sig=2")
    client = 'client_id = "a"\nclient_secret = "b"\ntenant_id = "c"'
    assert parse_azure_credentials(client) == AzureClient("a", "b", "c")


def test_a_service_account_names_no_hosts():
    kept = json.loads(parse_gcs_service_account(json.dumps(SERVICE_ACCOUNT)).text)
    assert set(kept) == {"type", "client_email", "private_key", "private_key_id"}


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        (parse_s3_keys, "", "The secret of an s3 backend is empty; it needs access_key_id and secret_access_key"),
        (parse_s3_keys, "hush", "is not TOML"),
        (parse_s3_keys, 'access_key_id = "hush"', "lacks secret_access_key"),
        (parse_s3_keys, 'session_token = "hush"', "lacks access_key_id and secret_access_key"),
        (parse_s3_keys, 'access_key_id = "hush"\nsecret_access_key = 1', "secret_access_key must be a text"),
        (parse_s3_keys, 'access_key_id = "hush\\n"\nsecret_access_key = "b"', "access_key_id must be a text"),
        (parse_s3_keys, 'access_key_id = "a"\nsecret_access_key = "b"\nhush = "c"', "has 1 unknown field(s)"),
        (parse_s3_keys, "x" * 70_000, "is over 65536 characters"),
        (
            parse_azure_credentials,
            'account_key = "hush"\nsas_token = "hush"',
            "has account_key and sas_token; give one",
        ),
        (parse_azure_credentials, 'client_id = "hush"', "lacks client_secret and tenant_id"),
        (parse_azure_credentials, 'hush = "a"', "has no credentials; it needs account_key, or sas_token, or client_id"),
        (parse_gcs_service_account, "hush", "is no JSON object"),
        (parse_gcs_service_account, "[" * 10_000, "is no JSON object"),
        (parse_gcs_service_account, '{"type": "authorized_user", "x": "hush"}', "has not the type service_account"),
        (parse_gcs_service_account, json.dumps({"type": "service_account"}), "lacks client_email"),
        (parse_gcs_service_account, json.dumps(SERVICE_ACCOUNT | {"private_key": "hush"}), "must be the PEM text"),
    ],
)
def test_a_secret_that_cannot_be_used_is_not_shown(parse, text, said):
    with pytest.raises(InvalidConfigError) as raised:
        parse(text)
    assert said in str(raised.value)
    assert "hush" not in str(raised.value)
    assert "hush" not in repr(raised.value.__context__ if not raised.value.__suppress_context__ else None)


@pytest.mark.parametrize(
    "credentials", [S3Keys("hush", "hush"), AzureAccountKey("hush"), AzureClient("hush", "hush", "hush")]
)
def test_credentials_are_never_shown(credentials):
    assert "hush" not in repr(credentials)
