"""Kubernetes' variable expansion yields the intended text: a user's text cannot read a variable of the pod."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.config.repo_config import FileSystemSpec, GithubSpec
from pywharf_operator.local.folder import snapshot_of
from pywharf_operator.render import Environment, render_server, resolve
from pywharf_operator.render.pod.container_text import container_args
from support.kubelet.expansion import expanded
from support.operator.manifest_text import parsed

SECRET = "the-admin's-token"
VARIABLES = {"TOKEN": SECRET, "": SECRET, "A B": SECRET}
TEXTS = st.text(st.sampled_from("$()T") | st.characters(codec="utf-8")) | st.lists(
    st.sampled_from(["$", "$$", "$(TOKEN)", "$(", ")", "TOKEN", "()", "x", "$()", "$(A B)"])
).map("".join)

RULES = [
    ("plain", "plain"),
    ("$(TOKEN)", SECRET),
    ("$$(TOKEN)", "$(TOKEN)"),
    ("$$$(TOKEN)", f"${SECRET}"),
    ("$$$$(TOKEN)", "$$(TOKEN)"),
    ("$(OTHER) $TOKEN $", "$(OTHER) $TOKEN $"),
    ("$(TOKEN", "$(TOKEN"),
    ("$$", "$"),
]


@pytest.mark.parametrize(("text", "passed"), RULES)
def test_the_double_follows_the_rules_of_kubernetes(text, passed):
    assert expanded(text, VARIABLES) == passed


@given(st.lists(TEXTS))
def test_a_container_gets_exactly_the_texts(texts):
    assert [expanded(text, VARIABLES) for text in container_args(texts)] == texts


@pytest.mark.parametrize("text", ["plain", "$", "$(TOKEN)", "$$(TOKEN)", "$(TOKEN", "a$(TOKEN)b$", "$((TOKEN))"])
def test_no_url_of_a_user_reads_a_variable_of_the_pod(text):
    """This holds for the Deployment's arguments and for those of each Job."""
    manifests = f"""
apiVersion: pywharf.dev/v1alpha1
kind: PackageServer
metadata: {{name: pywharf, namespace: ml}}
spec:
  allowedEndpoints: ["*"]
  upstream: {{mode: Pages, url: 'https://index.example.com/{text}/simple/'}}
  podTemplate: {{spec: {{containers: [{{name: server, env: [{{name: TOKEN, value: {SECRET!r}}}]}}]}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: keys, namespace: ml, labels: {{pywharf.dev/credentials: "true"}}}}
stringData: {{backend: a-token}}
---
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {{name: evil, namespace: ml}}
spec:
  backend: {{github: {{owner: acme, repo: wheels, branch: main, apiURL: 'https://api.example.com/{text}'}}}}
  credentials: {{backendSecretRef: {{name: keys, key: backend}}}}
"""
    found = parsed(manifests)
    assert found.problems == ()
    environment = Environment(specs={"file_system": FileSystemSpec, "github": GithubSpec}, image="pywharf:1")
    (verdict,) = resolve(snapshot_of(found), environment).servers
    rendered = render_server(verdict, environment)
    (deployment,) = (one for one in rendered.workload if one["kind"] == "Deployment")
    (cron_job,) = rendered.cron_jobs
    templates = [deployment["spec"]["template"], cron_job["spec"]["jobTemplate"]["spec"]["template"]]
    wanted = [
        f"--extra_index_url=https://index.example.com/{text}/simple/",
        f"--api_url=https://api.example.com/{text}",
    ]
    for template, argument in zip(templates, wanted, strict=True):
        container = template["spec"]["containers"][0]
        assert {"name": "TOKEN", "value": SECRET} in container["env"]
        passed = [expanded(one, VARIABLES) for one in container["args"]]
        assert argument in passed
        assert not [one for one in passed if SECRET in one]
