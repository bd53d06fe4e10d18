"""Configuration structs of backends that are not installed here, as the backends' own packages would define them."""

from pywharf.config.repo_config import BackendSpec


class S3Spec(BackendSpec, frozen=True, kw_only=True, tag="s3"):
    bucket: str
    prefix: str = ""
    region: str = ""
    endpoint: str = ""
    allow_http: bool = False
