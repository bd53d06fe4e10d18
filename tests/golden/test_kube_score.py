"""kube-score finds nothing critical in the rendered objects, except what docs/decisions/0009-* justifies."""

import subprocess
from pathlib import Path

import pytest
import yaml

from support.cluster import build as cluster_build
from support.parts import missing

EXPECTED = sorted(path for path in (Path(__file__).parent / "render").glob("expected-*.yaml") if path.stat().st_size)
VERSION = ".".join(cluster_build.KUBERNETES.split(".")[:2])
ARGUED = ("--ignore-container-cpu-limit", "--ignore-test=container-image-pull-policy")


def scored(text, *options):
    """Return the critical lines of kube-score's report."""
    try:
        program = cluster_build.build(cluster_build.LINT) / "kube-score"
    except cluster_build.BuildError as error:
        missing("kube-score", str(error))
    command = [program, "score", f"--kubernetes-version={VERSION}", "--output-format=ci", *options, "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode in {0, 1}, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("[CRITICAL]")]
    assert bool(lines) == bool(done.returncode), done.stdout
    return lines


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", EXPECTED, ids=lambda path: path.stem.removeprefix("expected-"))
def test_nothing_is_critical(path):
    assert scored(path.read_text(), *ARGUED) == []


@pytest.mark.timeout(600)
def test_only_what_is_argued_would_be():
    """Each exception is still needed: none outlives its reason."""
    found = scored((EXPECTED[0].parent / "expected-everything.yaml").read_text())
    assert {line.rpartition(") ")[2] for line in found} == {
        "CPU limit is not set",
        "ImagePullPolicy is not set to Always",
    }


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("kind", "fault"),
    [("NetworkPolicy", "does not have a matching NetworkPolicy"), ("PodDisruptionBudget", "No matching PodDisruption")],
)
def test_a_lack_is_found(kind, fault):
    objects = list(yaml.safe_load_all((EXPECTED[0].parent / "expected-ha.yaml").read_text()))
    text = yaml.safe_dump_all([item for item in objects if item["kind"] != kind])
    assert any(fault in line for line in scored(text, *ARGUED))
