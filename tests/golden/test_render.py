"""Output of `pywharf render`, compared with golden files. PYWHARF_UPDATE_GOLDEN=1 rewrites them: read the diff."""

import os
from pathlib import Path

import pytest
import yaml

from pywharf.config.object_stores import S3Spec
from pywharf.config.repo_config import FileSystemSpec, GithubSpec
from pywharf_operator.local.manifests import load_folder
from pywharf_operator.local.render_command import rendered, text_of
from pywharf_operator.render import Environment
from pywharf_operator.spec.names import CONFIG_MAP_SUFFIXES, SERVER_LABEL
from support.parts import CHECKOUT

HERE = Path(__file__).parent / "render"
FOLDERS = {
    "quickstart": CHECKOUT / "examples" / "quickstart",
    "two-teams": CHECKOUT / "examples" / "two-teams",
    "github": CHECKOUT / "examples" / "github",
    "s3": CHECKOUT / "examples" / "s3",
    "quota": CHECKOUT / "examples" / "quota",
    "cache": CHECKOUT / "examples" / "cache",
    "prefetch": CHECKOUT / "examples" / "prefetch",
    "policy": CHECKOUT / "examples" / "policy",
    "in-cluster": CHECKOUT / "examples" / "in-cluster",
    "trusted-publishing": CHECKOUT / "examples" / "trusted-publishing",
    **{folder.name: folder for folder in sorted(HERE.iterdir()) if folder.is_dir()},
}


# The output must not depend on which backends are installed.
ENVIRONMENT = Environment(
    specs={"file_system": FileSystemSpec, "github": GithubSpec, "s3": S3Spec},
    image="pywharf:1",
    apis=frozenset({"HTTPRoute", "ServiceMonitor"}),
)


def test_config_maps_of_servers_have_names_that_no_repo_may_take():
    """A new kind of ConfigMap belongs into CONFIG_MAP_SUFFIXES; a repo could be in its way otherwise."""
    files = (yaml.safe_load_all(path.read_text(encoding="utf-8")) for path in HERE.glob("expected-*.yaml"))
    made = [item["metadata"] for file in files for item in file if item["kind"] == "ConfigMap"]
    names = {one["name"] for one in made if SERVER_LABEL in one["labels"]}
    assert {name.rpartition("-")[2] for name in names} == set(CONFIG_MAP_SUFFIXES)


def held(path, text):
    if os.environ.get("PYWHARF_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FOLDERS)
def test_rendered(name):
    manifests = load_folder(FOLDERS[name], "default")
    objects, faults, _ = rendered(manifests, ENVIRONMENT, "default")
    problems = "".join(f"{line}\n" for line in (*map(str, manifests.problems), *faults))
    assert held(HERE / f"expected-{name}.yaml", text_of(objects)) == text_of(objects)
    assert held(HERE / f"expected-{name}.problems.txt", problems) == problems
    assert list(yaml.safe_load_all(text_of(objects))) == objects
