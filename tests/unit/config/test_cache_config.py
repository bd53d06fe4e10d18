"""The configuration of the pull-through cache."""

import pytest

from pywharf.config.cache_config import (
    DEFAULT_KEEP_PAGES_S,
    DEFAULT_MAX_BYTES,
    AzureCache,
    CacheConfig,
    FileSystemCache,
    GcsCache,
    ObjectStoreCache,
    S3Cache,
    parse_cache_config,
)
from pywharf.config.object_stores import AzureSpec, GcsSpec, S3Spec
from pywharf.config.repo_config import SecretRef
from pywharf.core.errors import InvalidConfigError

SECRET = 'secret = {file = "/run/secrets/cache"}\n'
S3 = f'type = "s3"\nbucket = "wheels"\n{SECRET}'


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ('type = "file_system"', FileSystemCache()),
        (
            'type = "file_system"\nfolder = "/cache"\nmax_bytes = 5\nkeep_pages = 60\n',
            FileSystemCache(folder="/cache", max_bytes=5, keep_pages=60),
        ),
        (S3, S3Cache(bucket="wheels", secret=SecretRef(file="/run/secrets/cache"))),
        (
            'type = "gcs"\nbucket = "wheels"\nambient_identity = true\n',
            GcsCache(bucket="wheels", ambient_identity=True),
        ),
        (
            f'type = "azure"\naccount = "acme"\ncontainer = "wheels"\n{SECRET}',
            AzureCache(account="acme", container="wheels", secret=SecretRef(file="/run/secrets/cache")),
        ),
    ],
)
def test_each_type_has_its_struct(text, config):
    assert parse_cache_config(text) == config


def test_what_is_left_out_has_a_default():
    config = parse_cache_config('type = "file_system"')
    assert (config.max_bytes, config.keep_pages) == (DEFAULT_MAX_BYTES, DEFAULT_KEEP_PAGES_S)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cache.toml: type is missing; name one of file_system, s3, gcs, azure."),
        ('type = "disk"', "cache.toml: type is 'disk'; name one of"),
        ("type = 3", "cache.toml: type is '3'"),
        ("type = ", "cache.toml is not valid TOML"),
        ('type = "file_system"\nbucket = "a"', "the field 'bucket' is unknown"),
        ('type = "file_system"\nmax_bytes = 0', "max_bytes is 0"),
        ('type = "file_system"\nkeep_pages = 1', "keep_pages is 1"),
        ('type = "file_system"\nfolder = ""', "folder"),
        ('type = "s3"\nbucket = "wheels"', "name exactly one of secret and ambient_identity"),
        (f"{S3}ambient_identity = true\n", "name exactly one of secret and ambient_identity"),
        (f'{S3}endpoint = "http://store.example"\n', "endpoint is plain http"),
        (f'{S3}prefix = "../"\n', "prefix is '../'"),
        (f'{S3}secret_file = "a"\n', "the field 'secret_file' is unknown"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_sentence(text, said):
    with pytest.raises(InvalidConfigError) as refused:
        parse_cache_config(text, "cache.toml")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("config", "spec"),
    [
        (
            S3Cache(bucket="wheels", region="eu-west-1", prefix="a/", secret="s"),
            S3Spec(bucket="wheels", region="eu-west-1", prefix="a/"),
        ),
        (
            S3Cache(bucket="wheels", endpoint="http://store.example", allow_http=True, secret="s"),
            S3Spec(bucket="wheels", endpoint="http://store.example", allow_http=True),
        ),
        (GcsCache(bucket="wheels", ambient_identity=True), GcsSpec(bucket="wheels", ambient_identity=True)),
        (AzureCache(account="acme", container="wheels", secret="s"), AzureSpec(account="acme", container="wheels")),
    ],
)
def test_a_cache_s_bucket_is_opened_as_a_repo_s(config, spec):
    assert config.spec == spec


def test_every_field_of_a_bucket_is_passed_on():
    shared = set(ObjectStoreCache.__struct_fields__) - set(CacheConfig.__struct_fields__) - {"secret"}
    assert shared <= set(S3Spec.__struct_fields__)


def test_the_secret_is_not_shown():
    assert "hush" not in repr(S3Cache(bucket="wheels", secret="hush"))
