"""A backend's field has one type: configurations and manifests refuse the same values, with the same sentence."""

import msgspec
import pytest

from pywharf.backends.opening import spec_types
from pywharf.config.repo_config import parse_spec
from pywharf.core.errors import InvalidConfigError
from pywharf.core.forms import Form, form_of
from pywharf_operator.spec.backends import S3, Azure, BackendModel, FileSystem, Gcs, Github

REQUIRED = {
    "github": {"owner": "acme", "repo": "wheels"},
    "file_system": {},
    "s3": {"bucket": "wheels"},
    "gcs": {"bucket": "wheels"},
    "azure": {"account": "acme", "container": "wheels"},
}
OWN = {("github", "api_url")}
"""Fields whose form is stricter in a manifest: the API server checks it by a pattern, a server by parsing the URL."""


def forms(struct: type[msgspec.Struct]) -> dict[str, Form]:
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType)
    return {field.name: form for field in info.fields if (form := form_of(field.type)) is not None}


@pytest.mark.parametrize("model", [FileSystem, Github, S3, Gcs, Azure])
def test_both_structs_name_the_same_forms(model: type[BackendModel]):
    spec = forms(spec_types()[model.type_name])
    manifest = {name: form for name, form in forms(model).items() if (model.type_name, name) not in OWN}
    assert manifest
    assert {name: spec.get(name) for name in manifest} == manifest


@pytest.mark.parametrize("value", ["", "-x", "..", "a/b\n", "x" * 300, "https://user:secret@host/", "index.xml"])
@pytest.mark.parametrize(
    ("model", "field"),
    [
        (Github, "owner"),
        (Github, "repo"),
        (Github, "branch"),
        (FileSystem, "index_filename"),
        (S3, "bucket"),
        (S3, "prefix"),
        (S3, "region"),
        (S3, "endpoint"),
        (Gcs, "bucket"),
        (Azure, "account"),
        (Azure, "container"),
    ],
)
def test_both_say_the_same(model, field, value):
    required = REQUIRED[model.type_name]
    try:
        model(**{**required, field: value})
    except ValueError as error:
        said = str(error).replace("indexFilename", "index_filename")
    else:
        parse_spec({"type": model.type_name, **required, field: value}, spec_types(), "here")
        return
    with pytest.raises(InvalidConfigError) as raised:
        parse_spec({"type": model.type_name, **required, field: value}, spec_types(), "here")
    assert str(raised.value) == f"here: {said}."
    assert "secret" not in said
