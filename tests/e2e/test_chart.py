"""The chart on a real node, used as docs/chart.md and its own notes say; every namespace is restricted."""

import base64
import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.cluster.cluster import CRDS, Cluster
from support.distributions.wheels import wheel
from support.node.pods import ClientPod, client_pod, restricted_namespace, rolled_out
from support.node.release import FLAGS, IMAGE_VALUES, Release, commands, rights
from support.operator.chart import CHART, PACKAGED, held
from support.parts import CHECKOUT, require
from support.waiting import wait_for

GOLDEN = CHECKOUT / "tests" / "golden" / "chart" / "accounts.txt"
REPO = "team-a"
FOLDER = "/tmp"
GREEN_S = 90.0
"""Most seconds from `helm install` to the end of `helm test`, with the image on the node."""
REPOS = IMAGE_VALUES | {"repos": {REPO: {"spec": {"backend": {"fileSystem": {}}}, "createSecret": True}}}
KEPT = (("packagerepo", REPO), ("secret", REPO), ("pvc", "pywharf-data"))
COMPONENTS = {"operator", "server", "index", "test"}


@dataclass(frozen=True)
class Installed:
    """A release whose test succeeded and whose notes were followed, and a pod in another namespace."""

    release: Release
    printed: str
    """The output of `helm install`."""
    tested: str
    """The output of `helm test`."""
    green_s: float
    credentials: dict[str, str]
    """READ and WRITE, as the commands of the notes set them."""
    client: ClientPod


@pytest.fixture(scope="module")
def installed(pod_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    require("openssl", "apt-get install openssl")
    folder = tmp_path_factory.mktemp("chart")
    release = Release(pod_cluster, restricted_namespace(pod_cluster), folder)
    other = restricted_namespace(pod_cluster)
    try:
        began = time.monotonic()
        install, test, *_ = readme(release.namespace)
        printed = release.as_typed(install)
        tested = release.as_typed([*test, "--logs"])
        green_s = time.monotonic() - began
        credentials = followed(release, commands(printed.partition("NOTES:\n")[2])[1:3])
        yield Installed(release, printed, tested, green_s, credentials, client_pod(pod_cluster, other))
    finally:
        release.remove()
        pod_cluster.kubectl("delete", "namespace", other, "--wait=false")


def followed(release: Release, paragraphs: list[str]) -> dict[str, str]:
    """Run the commands that a user types. Returns READ and WRITE. PATH has only kubectl and the system's programs."""
    folder = release.folder / "bin"
    folder.mkdir()
    (folder / "kubectl").symlink_to(release.cluster.kubectl_program)
    # The commands as typed, then the variables that they set.
    script = "\n".join(["set -eu", *paragraphs, 'printf "\\n%s\\n%s\\n" "$READ" "$WRITE"'])
    environment = {
        "PATH": f"{folder}:/usr/bin:/bin",
        "KUBECONFIG": str(release.cluster.kubeconfig),
        "HOME": str(release.folder),
        "NO_PROXY": os.environ.get("NO_PROXY", "127.0.0.1,localhost"),
    }
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(("READ", "WRITE"), done.stdout.splitlines()[-2:], strict=True))


def test_from_nothing_to_a_green_test(installed: Installed):
    print(f"from helm install to a green helm test: {installed.green_s:.1f} s")
    assert "Phase:          Succeeded" in installed.tested
    assert installed.tested.count("ok: ") == 5
    assert installed.green_s < GREEN_S


def test_the_quickstart_of_the_readme(installed: Installed):
    release = installed.release
    *_, shown = [release.as_typed(words) for words in readme(release.namespace)[2:]]
    assert "packagerepo.pywharf.dev/demo" in shown
    assert "packageserver.pywharf.dev/pywharf" in shown


def readme(namespace: str) -> list[list[str]]:
    """Return the commands of README.md for a cluster, as words, with this namespace, chart and image in them."""
    section = (CHECKOUT / "README.md").read_text().partition("\n## On a cluster\n")[2]
    block = section[section.index("$ helm install") :].partition("```")[0].replace("\\\n", " ")
    typed = [shlex.split(line.removeprefix("$ ")) for line in block.splitlines()]
    changed = {
        "packages": namespace,
        "deploy/helm/pywharf": str(CHART),
        "examples/quickstart": str(CHECKOUT / "examples" / "quickstart"),
        "image.repository=registry.example.com/pywharf": f"image.repository={IMAGE_VALUES['image']['repository']}",
    }
    install, *others = [[changed.get(word, word) for word in words] for words in typed]
    return [[*install, *FLAGS], *others]


def test_the_notes_say_what_works(installed: Installed, tmp_path: Path):
    """Each printed line for pip, uv and twine works from another namespace; only PROJECT and dist are the user's."""
    release = installed.release
    notes = installed.printed.partition("NOTES:\n")[2]
    assert release.notes().strip() == notes.strip()
    url = release.kubectl("get", "packagerepo", REPO, "--output=jsonpath={.status.url}")
    assert url == f"http://pywharf.{release.namespace}.svc/repo/{REPO}/simple/"
    pip, uv, twine, publish = (line.strip() for line in commands(notes)[3].splitlines())
    named = url.replace("://", f"://{REPO}:$READ@")
    assert all(named in line for line in (pip, uv))
    assert all(url in line for line in (twine, publish))
    for line, name in ((twine, "crate"), (publish, "barrel")):
        brought(installed.client, wheel(tmp_path, name), f"{FOLDER}/{name}/dist")
        typed(installed, f"cd {FOLDER}/{name}", line)
    for program, line, name in (("pip", pip, "crate"), ("uv", uv, "barrel")):
        environment = f"{FOLDER}/of-{program}"
        activated = f"uv venv --quiet {environment} && . {environment}/bin/activate"
        typed(installed, activated, "export PIP_PYTHON=$VIRTUAL_ENV/bin/python", line.replace("PROJECT", name))
        shown = installed.client.run(f"{environment}/bin/python", "-c", f"import {name}; print({name}.VALUE)")
        assert shown == "1\n"


def typed(installed: Installed, *lines: str) -> str:
    variables = [f"{name}={value}" for name, value in installed.credentials.items()]
    settings = [f"HOME={FOLDER}", "UV_NO_CACHE=1", "PIP_DISABLE_PIP_VERSION_CHECK=1"]
    return installed.client.run("env", *variables, *settings, "sh", "-ec", "\n".join(lines))


def brought(client: ClientPod, file: Path, folder: str) -> str:
    content = base64.b64encode(file.read_bytes()).decode()
    client.run("sh", "-ec", f"mkdir -p {folder}; base64 -d > {folder}/{file.name}", input=content)
    return f"{folder}/{file.name}"


def test_what_each_account_of_the_namespace_may_do(installed: Installed):
    """Only the operator's account may do more than any account; those of servers and index Jobs may not."""
    release = installed.release
    accounts = release.kubectl("get", "serviceaccounts", "--output=jsonpath={.items[*].metadata.name}").split()
    anyone = rights(release.cluster, release.namespace, "nobody-has-made-it")
    own = {account: rights(release.cluster, release.namespace, account) - anyone for account in sorted(accounts)}
    assert {account for account, more in own.items() if more} == {"pywharf-operator"}
    text = "".join(
        "\n".join([f"{account}:", *(f"  {one}" for one in sorted(more) or ["nothing"])]) + "\n"
        for account, more in own.items()
    )
    held(GOLDEN, text)


def test_every_pod_is_restricted(installed: Installed):
    """The namespace enforces the restricted level, so pods that run comply. There was no refusal and no warning."""
    release = installed.release

    def components() -> set[str]:
        pods = json.loads(release.kubectl("get", "pods", "--output=json"))["items"]
        ran = [pod for pod in pods if pod["status"]["phase"] in {"Running", "Succeeded"}]
        return {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in ran}

    release.kubectl("annotate", "--overwrite", f"packagerepo/{REPO}", "pywharf.dev/update-index=now")
    wait_for(lambda: components() >= COMPONENTS, f"pods of {sorted(COMPONENTS)}", longest_s=60)
    assert components() == COMPONENTS
    events = json.loads(release.kubectl("get", "events", "--output=json"))["items"]
    assert [one["message"] for one in events if "PodSecurity" in one.get("message", "")] == []
    # Ignore lines of helm's own client (I1123 …) about a watch that it has ended.
    said = [line for line in release.warnings if not re.match(r"I\d{4} ", line)]
    assert [line for line in said if "PodSecurity" in line or "Warning" in line] == []


@pytest.fixture
def older(pod_cluster: Cluster, tmp_path: Path) -> Iterator[Release]:
    """A release of the chart's first version."""
    made = Release(pod_cluster, restricted_namespace(pod_cluster), tmp_path)
    # As in tests/chart: the cluster already has the CRDs of this checkout.
    made.helm("install", str(PACKAGED), "--skip-crds", values=REPOS)
    yield made
    made.remove()


def test_packages_survive_upgrade_rollback_and_removal(older: Release, installed: Installed, tmp_path: Path):
    served(older)
    read, write = (taken(older, key) for key in ("read", "write"))
    uids, volume = kept(older), volume_of(older)
    client, url = installed.client, older.kubectl("get", "packagerepo", REPO, "--output=jsonpath={.status.url}")
    file = brought(client, wheel(tmp_path, "keepsake"), f"{FOLDER}/{older.namespace}")
    client.run("twine", "upload", "--non-interactive", f"--repository-url={url}", "-u", REPO, "-p", write, file)
    index = url.replace("://", f"://{REPO}:{read}@")

    def download(when: str) -> None:
        served(older)
        flags = ("--no-cache-dir", "--no-deps", "--disable-pip-version-check", "--retries=0")
        trusted = f"--trusted-host=pywharf.{older.namespace}.svc"
        to = f"{FOLDER}/{older.namespace}/{when}"
        client.run("pip", "download", *flags, trusted, f"--index-url={index}", f"--dest={to}", "keepsake")
        client.run("cmp", file, f"{to}/{Path(file).name}")
        assert kept(older) == uids
        assert volume_of(older) == volume

    download("installed")
    older.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    older.helm("upgrade", str(CHART), "--reset-then-reuse-values")
    download("upgraded")
    older.helm("rollback")
    download("rolled-back")
    older.helm("uninstall")
    wait_for(lambda: older.kubectl("get", "pods", "--output=name").strip() == "", "the end of all pods", longest_s=60)
    assert kept(older) == uids
    assert volume_of(older) == volume
    older.helm("install", str(CHART), values=REPOS)
    download("installed-again")
    older.helm("uninstall")
    assert kept(older) == uids


def served(release: Release) -> None:
    """Wait until the current Deployments are rolled out and the repo is ready."""
    for deployment in ("pywharf-operator", "pywharf"):
        rolled_out(release.cluster, release.namespace, deployment)
    release.kubectl("wait", "--for=condition=Ready", "--timeout=90s", f"packagerepo/{REPO}")


def taken(release: Release, key: str) -> str:
    """Return a value of the repo's Secret."""
    return release.kubectl("get", "secret", REPO, f'--template={{{{index .data "{key}" | base64decode}}}}')


def kept(release: Release) -> dict[tuple[str, str], str]:
    return {one: release.uid(*one) for one in KEPT}


def volume_of(release: Release) -> str:
    """Return the name and uid of the volume that the claim is bound to."""
    name = release.kubectl("get", "pvc", "pywharf-data", "--output=jsonpath={.spec.volumeName}")
    return f"{name} {release.uid('persistentvolume', name)}"
