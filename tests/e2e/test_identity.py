"""Pods without any Secret on a real node: `examples/in-cluster` as it is, and what happens to their tokens."""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from support.certificates import certificates
from support.cluster.cluster import Cluster
from support.cluster.kube_client import Json, KubeClient
from support.cluster.resources import condition, path, wait_for_condition
from support.node.node import Node
from support.node.pods import CLIENT_IMAGE, ClientPod, applied, install_operator, restricted_namespace, rolled_out
from support.parts import CHECKOUT, missing
from support.waiting import stretched, wait_for

EXAMPLES = CHECKOUT / "examples" / "in-cluster"
REPO = "wheels"
IMAGES = ("python:3.13-slim", "registry.example.com/python-with-uv:3.13")
GREETING = "Hello from acme-tool!"
READY_S = 120.0
ENDS_S = 2.0
TOKEN = "/var/run/secrets/pywharf/token"
# Asks for a page with the mounted token, prints the status, and waits until it is the wanted one.
ASK = f"""
import base64, pathlib, ssl, sys, time, urllib.error, urllib.request
url, wanted, longest = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
context = ssl.create_default_context(cafile="/etc/pywharf-client/ca.crt")
handlers = urllib.request.ProxyHandler({{}}), urllib.request.HTTPSHandler(context=context)
opener = urllib.request.build_opener(*handlers)
def status():
    token = pathlib.Path("{TOKEN}").read_text()
    basic = base64.b64encode(f"__token__:{{token}}".encode()).decode()
    request = urllib.request.Request(url, headers={{"Authorization": "Basic " + basic}})
    try:
        with opener.open(request, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
print(status(), flush=True)
end = time.monotonic() + longest
while status() != wanted:
    assert time.monotonic() < end, f"still not {{wanted}}"
    time.sleep(0.02)
print(wanted, flush=True)
"""
# Prints what the API server calls this very token, never the token.
NUMBER = f"""
import base64, json, pathlib
part = pathlib.Path("{TOKEN}").read_text().split(".")[1]
print(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["jti"])
"""


@dataclass(frozen=True)
class Site:
    """The example in a namespace of its own, with everything that it installs and publishes."""

    cluster: Cluster
    kube: KubeClient
    namespace: str
    log: str = ""
    """What the server had logged when the build was done. Tests that change the server start new pods of it."""

    @property
    def trainer(self) -> ClientPod:
        """The Deployment's pod, which runs as a ServiceAccount that may read."""
        return ClientPod(self.cluster, self.namespace, "deployment/trainer")

    @property
    def url(self) -> str:
        return f"https://pywharf.{self.namespace}.svc/repo/{REPO}/simple/acme-tool/"

    def kubectl(self, verb: str, *arguments: str, input: str | None = None) -> str:  # noqa: A002 - as Cluster.kubectl
        return self.cluster.kubectl(verb, f"--namespace={self.namespace}", *arguments, input=input)

    def logged(self) -> str:
        """Return what the server's pod has logged so far."""
        return self.kubectl("logs", "deployment/pywharf", "--tail=-1")


def audited(log: str) -> list[Json]:
    """Return the events of the audit log in this log."""
    return [json.loads(line) for line in re.findall(r'\{"schema":"pywharf\.audit/1".*\}', log)]


def example(name: str, namespace: str) -> list[Json]:
    """Return the manifests of a file, in this namespace and with an image that the node has."""
    text = (EXAMPLES / f"{name}.yaml").read_text().replace("namespace: ml", f"namespace: {namespace}")
    for image in IMAGES:
        text = text.replace(image, CLIENT_IMAGE)
    return list(yaml.safe_load_all(text))


def tls_secret(folder: Path, namespace: str) -> Json:
    made = certificates(folder, f"DNS:pywharf.{namespace}.svc")
    files = {"tls.crt": made.cert, "tls.key": made.key, "ca.crt": made.authority}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "pywharf-tls", "namespace": namespace},
        "type": "kubernetes.io/tls",
        "stringData": {key: file.read_text() for key, file in files.items()},
    }


def done(site: Site, job: str) -> str:
    """Wait for a Job's end and return its log. Raises AssertionError with the log if it fails."""

    def ended() -> str:
        return site.kubectl("get", f"job/{job}", "--output=jsonpath={.status.conditions[*].type}")

    wait_for(lambda: {"Complete", "Failed"} & set(ended().split()), f"the Job {job} to end", longest_s=READY_S)
    log = site.kubectl("logs", f"job/{job}", "--tail=60")
    assert "Complete" in ended(), log
    return log


@pytest.fixture(scope="module")
def site(pod_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if CLIENT_IMAGE.startswith("python:"):
        missing("an image with uv", "name one in PYWHARF_TEST_CLIENT_IMAGE")
    namespace = restricted_namespace(pod_cluster)
    kube = pod_cluster.client()
    site = Site(pod_cluster, kube, namespace)
    try:
        install_operator(pod_cluster, namespace)
        applied(pod_cluster, [tls_secret(tmp_path_factory.mktemp("tls"), namespace)])
        applied(pod_cluster, [*example("server", namespace), *example("repo", namespace)])
        where = path("packagerepos", namespace, REPO)
        wait_for_condition(kube, where, "ClientConfigured", "True", longest_s=READY_S)
        wait_for_condition(kube, where, "Ready", "True", longest_s=READY_S)
        rolled_out(pod_cluster, namespace, "pywharf")
        # First the package that the others install.
        applied(pod_cluster, example("build", namespace))
        done(site, "build")
        site = replace(site, log=site.logged())
        applied(pod_cluster, [*example("deployment", namespace), *example("job", namespace)])
        rolled_out(pod_cluster, namespace, "trainer")
        # Its container has begun, but may still install: without its entry it would end.
        wait_for(lambda: GREETING in site.kubectl("logs", "deployment/trainer"), "the Deployment to run")
        yield site
    finally:
        kube.delete(f"/api/v1/namespaces/{namespace}")
        kube.close()


def pods_of_example(site: Site) -> list[Json]:
    items: list[Json] = json.loads(
        site.kubectl("get", "pods", "-l", "app in (trainer, evaluate, build)", "-o", "json")
    )["items"]
    return items


def test_pods_install_without_a_secret(site: Site) -> None:
    assert GREETING in done(site, "evaluate")
    assert GREETING in site.kubectl("logs", "deployment/trainer")
    pods = pods_of_example(site)
    assert {pod["metadata"]["labels"]["app"] for pod in pods} == {"trainer", "evaluate", "build"}
    for pod in pods:
        spec = json.dumps(pod["spec"])
        assert not re.search(r'"secret(Name|KeyRef|Ref)?"', spec), "a pod names a Secret"
        assert '"audience": "pywharf"' in spec


def test_the_build_s_identity_stands_in_the_audit(site: Site) -> None:
    (event,) = [one for one in audited(site.log) if one["event"] == "publish"]
    assert event["repo"] == REPO
    assert event["project"] == "acme-tool"
    assert event["subject"] == f"system:serviceaccount:{site.namespace}:builder"
    assert event["entry"] == "build,pods"  # both name it, and entries add up
    assert event["result"] == "done"
    # A token's parts are base64 of JSON objects, so each of them would begin like this.
    assert "eyJ" not in site.log
    assert "eyJ" not in site.logged()


def test_a_reader_publishes_nothing(site: Site) -> None:
    """With twine as the docs say."""
    script = (
        "cd /tmp && rm -rf dist && pip download --no-cache-dir --no-deps --dest=dist acme-tool && "
        f"TWINE_USERNAME=__token__ TWINE_PASSWORD=$(cat {TOKEN}) TWINE_CERT=/etc/pywharf-client/ca.crt "
        f"twine upload --non-interactive --repository-url={site.url.removesuffix('acme-tool/')} dist/*"
    )
    said = site.trainer.fails("sh", "-c", f"export PATH=/etc/pywharf-client:$PATH; {script}")
    assert "403" in said


@contextlib.contextmanager
def other_pod(site: Site) -> Iterator[ClientPod]:
    """Run a pod in another namespace, with a ServiceAccount of the same name and the same ConfigMap."""
    namespace = restricted_namespace(site.cluster)
    try:
        (deployment,) = example("deployment", namespace)
        spec = deployment["spec"]["template"]["spec"]
        spec["containers"][0]["args"] = ["exec sleep infinity"]
        found = site.kube.get(path("configmaps", site.namespace, f"{REPO}-clients", "/api/v1"))
        assert found is not None
        copied = {"name": found["metadata"]["name"], "namespace": namespace}
        account = {"name": "trainer", "namespace": namespace}
        applied(
            site.cluster,
            [
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": copied, "data": found["data"]},
                {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
                {"apiVersion": "v1", "kind": "Pod", "metadata": account, "spec": spec},
            ],
        )
        where = (f"--namespace={namespace}", "pod/trainer")
        site.cluster.kubectl("wait", *where, "--for=condition=Ready", f"--timeout={READY_S:.0f}s")
        yield ClientPod(site.cluster, namespace, "trainer")
    finally:
        site.kube.delete(f"/api/v1/namespaces/{namespace}")


def pip_download(to: str, retries: int = 0) -> tuple[str, ...]:
    """Return the command. A refused connection is tried again `retries` times, a refused token never."""
    flags = f"--no-cache-dir --no-deps --no-input --retries={retries} --disable-pip-version-check"
    return ("sh", "-c", f"export PATH=/etc/pywharf-client:$PATH; pip download {flags} --dest={to} acme-tool")


def test_another_namespace_s_pod_is_refused(site: Site) -> None:
    with other_pod(site) as other:
        assert other.run("python3", "-c", ASK, site.url, "401", "5").split() == ["401", "401"]
        assert "acme" in other.fails(*pip_download("/tmp/none"))
        refused = {
            (one.get("subject"), one.get("reason")) for one in audited(site.logged()) if one["event"] == "refusal"
        }
        assert (f"system:serviceaccount:{other.namespace}:trainer", "not-named") in refused


def test_a_removed_entry_ends_within_seconds(site: Site) -> None:
    (repo, *_) = example("repo", site.namespace)
    entries = repo["spec"]["access"]
    where = path("packagerepos", site.namespace, REPO)
    with site.trainer.start("python3", "-c", ASK, site.url, "401", "60") as asking:
        assert asking.stdout is not None
        assert asking.stdout.readline().strip() == "200"
        began = time.monotonic()
        site.kube.patch(where, {"spec": {"access": [one for one in entries if one["name"] != "pods"]}})
        assert asking.stdout.readline().strip() == "401", asking.communicate(timeout=30)
        took = time.monotonic() - began
    print(f"a removed entry ends after {took:.2f} s")
    try:
        assert took <= stretched(ENDS_S)
        site.trainer.fails(*pip_download("/tmp/none"))
    finally:
        site.kube.patch(where, {"spec": {"access": entries}})
    site.trainer.run("python3", "-c", ASK, site.url, "200", "60")
    site.trainer.run(*pip_download("/tmp/back"))


def test_renewed_tokens_go_on_working(site: Site, node: Node) -> None:
    """A kubelet renews at 80 % of the lifetime, which has at least 600 s. One that is restarted remembers no token: it
    asks for a new one and writes it as it does then.
    """
    numbers = [site.trainer.run("python3", "-c", NUMBER)]
    for number in range(2):
        node.spaces.restart("kubelet")
        wait_for(lambda: renewed(site, numbers), "a new token in the pod", longest_s=READY_S)
        numbers.append(site.trainer.run("python3", "-c", NUMBER))
        wait_for(lambda: answered(site), "the server in its Service again", longest_s=READY_S)
        # The server may leave its Service only now: the kubelet probes pods one after the other.
        site.trainer.run(*pip_download(f"/tmp/renewed-{number}", retries=10))
    assert len(set(numbers)) == 3


def renewed(site: Site, numbers: list[str]) -> bool:
    try:
        return site.trainer.run("python3", "-c", NUMBER) not in numbers
    except AssertionError:  # the kubelet is not back yet
        return False


def answered(site: Site) -> bool:
    """Return whether the server answers; the first answer must be 200.

    A restarted kubelet reports its pods as not ready until their next probe, so a Service with one pod refuses
    connections for seconds.
    """
    try:
        answers = site.trainer.run("python3", "-c", ASK, site.url, "200", "5").split()
    except AssertionError as error:
        if "Connection refused" in str(error):
            return False
        raise
    assert answers == ["200", "200"]
    return True


@contextlib.contextmanager
def review_right(site: Site) -> Iterator[None]:
    """Give the server's ServiceAccount the right exactly as the chart does with its option."""
    rendered = yaml.safe_load_all((CHECKOUT / "tests" / "golden" / "chart" / "token-review.yaml").read_text())
    name = f"reviews-{site.namespace}"
    role, binding = (one for one in rendered if one and one["metadata"]["name"].endswith("-token-review"))
    role["metadata"] = binding["metadata"] = {"name": name}
    binding["roleRef"]["name"] = name
    (subject,) = binding["subjects"]
    subject["namespace"] = site.namespace
    applied(site.cluster, [role, binding])
    try:
        yield
    finally:
        site.cluster.kubectl("delete", f"clusterrolebinding/{name}", f"clusterrole/{name}")


def test_the_api_server_reviews_the_tokens_of_pods(site: Site) -> None:
    """Without its right the server says so, and believes nobody; with the right no pod is restarted."""
    where = path("packageservers", site.namespace, "pywharf")
    try:
        site.kube.patch(where, {"spec": {"identity": {"serviceAccounts": "TokenReview"}}})
        found = wait_for_condition(
            site.kube, where, "IdentityReady", "False", reason="TokenReviewForbidden", longest_s=READY_S
        )
        assert f"the ServiceAccount {site.namespace}/pywharf the right" in condition(found, "IdentityReady")["message"]
        site.trainer.run("python3", "-c", ASK, site.url, "503", "60")
        with review_right(site):
            site.trainer.run("python3", "-c", ASK, site.url, "200", "60")
            site.trainer.run(*pip_download("/tmp/reviewed"))
            wait_for_condition(site.kube, where, "IdentityReady", "True", longest_s=READY_S)
            assert f"system:serviceaccount:{site.namespace}:trainer" in site.kubectl("logs", "deployment/pywharf")
    finally:
        site.kube.patch(where, {"spec": {"identity": {"serviceAccounts": "Offline"}}})
        site.trainer.run("python3", "-c", ASK, site.url, "200", "60")
        rolled_out(site.cluster, site.namespace, "pywharf")
