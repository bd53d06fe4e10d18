"""Releases of the chart on a real control plane: install, upgrade, rollback, uninstall and reinstall."""

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from support.cluster import build as cluster_build
from support.cluster.cluster import CRDS, GIVEN, KubectlError, manifests, programs, run_kubectl
from support.cluster.control_plane import ControlPlane
from support.node.release import rights
from support.operator.chart import CHART, PACKAGED, HelmError, held, helm, program, rendered
from support.operator.operating import Operator, operating
from support.parts import CHECKOUT, missing, require
from support.run_cluster.install import Tools, crds_there, namespace_is_there, uninstall
from support.waiting import wait_for

GOLDEN = CHECKOUT / "tests" / "golden" / "chart"
CASES = sorted(path.name.removesuffix(".values.yaml") for path in GOLDEN.glob("*.values.yaml"))
REPOS = {"repos": {"team-a": {"spec": {"backend": {"fileSystem": {}}}, "createSecret": True}}}
HA = {"replicas": 2, "server": {"replicas": 2, "storage": {"accessModes": ["ReadWriteMany"]}}}
ACCOUNT = "pywharf-operator"


class Release:
    """The release `pywharf` and the objects in its namespace."""

    def __init__(self, cluster, kube, namespace, folder):
        self.cluster, self.kube, self.namespace, self.folder = cluster, kube, namespace, folder

    def helm(self, verb, *arguments, values=None):
        options = (f"--namespace={self.namespace}", *arguments)
        return helm(verb, "pywharf", *options, folder=self.folder, kubeconfig=self.cluster.kubeconfig, values=values)

    def get(self, kind, name):
        paths = {
            "repo": "/apis/pywharf.dev/v1alpha1/namespaces/{}/packagerepos/{}",
            "server": "/apis/pywharf.dev/v1alpha1/namespaces/{}/packageservers/{}",
            "deployment": "/apis/apps/v1/namespaces/{}/deployments/{}",
            "lease": "/apis/coordination.k8s.io/v1/namespaces/{}/leases/{}",
            "budget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets/{}",
            "secret": "/api/v1/namespaces/{}/secrets/{}",
            "claim": "/api/v1/namespaces/{}/persistentvolumeclaims/{}",
        }
        return self.kube.get(paths[kind].format(self.namespace, name))

    def uid(self, kind, name):
        found = self.get(kind, name)
        assert found is not None, f"no {kind} {name}"
        return found["metadata"]["uid"]

    def operating(self):
        """Run the operator outside a pod, as its Deployment starts it and with the rights of its own account."""
        spec = self.get("deployment", ACCOUNT)["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        command, *flags = container["args"]
        assert command == "operator"
        namespaces = [flag.removeprefix("--namespace=") for flag in flags if flag.startswith("--namespace=")]
        others = [flag for flag in flags if not flag.startswith("--namespace=")]
        kubeconfig = self.cluster.kubeconfig_for(spec["serviceAccountName"], self.namespace)
        return operating(self.folder, kubeconfig, *namespaces, flags=others)

    def works(self, operator: Operator, *, with_policies: bool = True):
        """Wait until the operator has reconciled the server and the repo.

        `with_policies`: whether the release's Role knows policies. An operator that is newer than its Role goes on.
        """
        wait_for(
            lambda: condition(self.get("repo", "team-a"), "SecretsResolved") == "True",
            "the repo's Secret",
            longest_s=60,
        )
        wait_for(lambda: condition(self.get("repo", "team-a"), "Accepted") == "True", "the repo", longest_s=60)
        wait_for(lambda: self.get("deployment", "pywharf"), "the server's Deployment", longest_s=60)
        wait_for(lambda: self.get("claim", "pywharf-data"), "the server's volume", longest_s=60)
        wait_for(lambda: condition(self.get("server", "pywharf"), "Accepted") == "True", "the server", longest_s=60)
        requests = [line for line in operator.get("/metrics")[1].splitlines() if "api_requests_total{" in line]
        refused = [line for line in requests if 'code="403"' in line]
        if with_policies:
            assert refused == []
        else:
            assert [line for line in refused if 'verb="list"' not in line] == []
            assert "PackagePolicies of" in operator.text()


def condition(item, name):
    conditions = ((item or {}).get("status") or {}).get("conditions") or []
    return {found["type"]: found["status"] for found in conditions}.get(name)


@pytest.fixture
def release(cluster, kube, namespace, tmp_path):
    # The level under which every pod here must be admitted.
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
    kube.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": labels}})
    made = Release(cluster, kube, namespace, tmp_path)
    yield made
    made.helm("uninstall", "--ignore-not-found")  # removes its cluster-wide objects


@pytest.mark.timeout(300)
def test_from_the_first_version_to_the_last_and_back(release):
    # The cluster already has the CRDs of this checkout. Helm yields to another manager that has applied them.
    release.helm("install", str(PACKAGED), "--skip-crds", values=REPOS)
    with release.operating() as operator:
        release.works(operator, with_policies=False)
    kept = [("repo", "team-a"), ("secret", "team-a"), ("claim", "pywharf-data")]
    before = {key: release.uid(*key) for key in [*kept, ("deployment", ACCOUNT), ("deployment", "pywharf")]}
    data = release.get("secret", "team-a")["data"]
    assert data["read"] != data["write"]

    # With --reuse-values, values added since then lack even their defaults.
    release.helm("upgrade", str(CHART), "--reuse-values")
    assert {key: release.uid(*key) for key in before} == before
    assert release.uid("server", "pywharf")
    release.helm("upgrade", str(CHART), values=REPOS | HA)
    assert release.get("deployment", ACCOUNT)["spec"]["strategy"]["type"] == "RollingUpdate"
    assert release.get("budget", ACCOUNT) is not None
    release.helm("upgrade", str(CHART), values=REPOS)
    assert release.get("deployment", ACCOUNT)["spec"]["strategy"] == {"type": "Recreate"}
    assert release.get("budget", ACCOUNT) is None
    release.helm("rollback", "3")
    release.helm("rollback", "1")
    assert {key: release.uid(*key) for key in before} == before
    assert release.get("secret", "team-a")["data"] == data

    release.helm("uninstall")
    assert release.get("server", "pywharf") is None
    assert {key: release.uid(*key) for key in kept} == {key: before[key] for key in kept}
    assert release.get("secret", "team-a")["data"] == data
    release.cluster.need_controllers()
    wait_for(lambda: release.get("deployment", "pywharf") is None, "the server is collected", longest_s=60)

    release.helm("install", str(CHART), values=REPOS)
    with release.operating() as operator:
        release.works(operator)
    assert {key: release.uid(*key) for key in kept} == {key: before[key] for key in kept}
    assert release.get("secret", "team-a")["data"] == data


@pytest.mark.timeout(200)
def test_a_secret_is_made_once_and_never_touched(release, kube):
    """No upgrade or rollback touches a Secret, even a changed one. Secrets that others created are left alone."""
    metadata = {"name": "theirs", "labels": {"pywharf.dev/credentials": "true"}}
    theirs = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"read": "a", "write": "b"}}
    kube.create(f"/api/v1/namespaces/{release.namespace}/secrets", theirs)
    release.helm("install", str(CHART), values=REPOS)
    path = f"/api/v1/namespaces/{release.namespace}/secrets/team-a"
    rotated = base64.b64encode(b"rotated").decode()
    kube.patch(path, {"data": {"read": rotated}}, manager="kubectl-patch")
    before = release.get("secret", "theirs")["metadata"]["resourceVersion"]
    more = {"repos": REPOS["repos"] | dict.fromkeys(("later", "theirs"), REPOS["repos"]["team-a"])}
    release.helm("upgrade", str(CHART), values=more)
    assert kube.get(path)["data"]["read"] == rotated
    later = release.get("secret", "later")["data"]
    assert later["read"] != later["write"]
    assert release.get("secret", "theirs")["metadata"]["resourceVersion"] == before
    release.helm("rollback", "1")
    assert kube.get(path)["data"]["read"] == rotated
    assert release.get("secret", "later")["data"] == later
    assert release.get("repo", "later") is not None


@pytest.mark.timeout(200)
def test_two_replicas_elect_a_leader_with_these_rights(release):
    release.helm("install", str(CHART), values=REPOS | HA)
    with release.operating() as operator:
        release.works(operator)
        assert operator.metric("pywharf_operator_leader") == 1
        assert release.get("lease", "pywharf-operator")["spec"]["holderIdentity"]
    assert not release.get("lease", "pywharf-operator")["spec"]["holderIdentity"]


def test_its_pods_are_restricted(release):
    """The namespace enforces the restriction on pods only, so the test submits pods."""
    release.helm("install", str(CHART), values={"image": {"repository": "registry.example/pywharf"}})
    template = release.get("deployment", ACCOUNT)["spec"]["template"]
    pods = [{"apiVersion": "v1", "kind": "Pod", **template}]
    pods[0]["metadata"] = template["metadata"] | {"name": "as-the-deployment-makes-it"}
    text = rendered(release.folder, {}, "--show-only=templates/tests/test.yaml", namespace=release.namespace)
    pods += [item for item in manifests(text) if item["kind"] == "Pod"]
    assert len(pods) == 2
    for pod in pods:
        dry_run(release, pod)
    pods[0]["spec"] = template["spec"] | {"hostNetwork": True}
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        dry_run(release, pods[0])


def dry_run(release, *items):
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    release.cluster.kubectl(
        "apply", "--dry-run=server", "--server-side", f"--namespace={release.namespace}", "-f", "-", input=text
    )


@pytest.mark.parametrize("case", CASES)
def test_the_api_server_takes_what_is_rendered(case, release):
    text = (GOLDEN / f"{case}.values.yaml").read_text()
    values = yaml.safe_load(text.replace("[packages,", f"[{release.namespace},"))
    items = manifests(rendered(release.folder, values, "--skip-tests", namespace=release.namespace))
    elsewhere = {"packages", "ml", "web"}  # these do not exist; nor do the Prometheus kinds
    dry_run(
        release,
        *(
            item
            for item in items
            if item["metadata"].get("namespace") not in elsewhere and item["kind"] != "ServiceMonitor"
        ),
    )


def test_namespaces_that_are_watched(release, kube):
    """Each watched namespace has a Role. Nothing is allowed in other namespaces."""
    other, third = f"{release.namespace}-b", f"{release.namespace}-c"
    for name in (other, third):
        kube.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        release.helm("install", str(CHART), values={"watch": {"namespaces": [release.namespace, other]}})

        def may(namespace, verb, kind):
            user = f"--as=system:serviceaccount:{release.namespace}:{ACCOUNT}"
            try:
                said = release.cluster.kubectl("auth", "can-i", verb, kind, user, f"--namespace={namespace}")
            except KubectlError:
                return False
            return said.strip() == "yes"

        wait_for(lambda: may(other, "list", "packagerepos"), "the rights", longest_s=30)
        assert [may(name, "patch", "deployments") for name in (release.namespace, other, third)] == [True, True, False]
        assert not may(other, "create", "leases")
        assert not may(release.namespace, "delete", "persistentvolumeclaims")
        assert not may(release.namespace, "patch", "packagerepos")
    finally:
        for name in (other, third):
            kube.delete(f"/api/v1/namespaces/{name}")


def test_helm_test_leaves_nothing_but_its_pod(release, kube):
    """Without a node here, the test sets the pod's result itself. tests/e2e run the pod."""
    if GIVEN in os.environ:
        missing("a control plane without nodes", f"{GIVEN} names one that would run the pod")
    name = "pywharf-operator-test"
    pod = f"/api/v1/namespaces/{release.namespace}/pods/{name}"
    release.helm("install", str(CHART))

    def uid():
        return (kube.get(pod) or {"metadata": {}})["metadata"].get("uid")

    for phase in ("Failed", "Succeeded"):
        before = uid()
        with ThreadPoolExecutor(1) as executor:
            tested = executor.submit(release.helm, "test", "--timeout=60s")
            wait_for(lambda: uid() not in {None, before}, "the pod", longest_s=60)  # noqa: B023
            secret = release.get("secret", name)
            assert secret["metadata"]["labels"]["pywharf.dev/credentials"] == "true"
            assert release.get("repo", name)["spec"]["credentials"]["readSecretRef"] == {"name": name, "key": "read"}
            kube.patch_status(pod, {"phase": phase})
            error = tested.exception(timeout=90)
        assert (error is None) == (phase == "Succeeded"), error
        assert release.get("repo", name) is None
        assert release.get("secret", name) is None
        assert kube.get(pod) is not None


def test_the_commands_of_the_notes_work(release):
    """The kubectl commands; tests/e2e run the commands for the clients."""
    require("openssl", "apt-get install openssl")
    notes = release.helm("install", str(CHART)).partition("NOTES:\n")[2]
    made = re.search(r"^  kubectl [^\n]* create secret .*?^EOF$", notes, re.MULTILINE | re.DOTALL)
    taken = re.findall(r"^  ((?:READ|WRITE)=.*)$", notes, re.MULTILINE)
    assert made
    assert len(taken) == 2
    script = "\n".join(["set -eu", made[0], *taken, 'echo "values $READ $WRITE"'])
    path = f"{release.cluster.kubectl_program.parent}:/usr/bin:/bin"
    environment = {"PATH": path, "KUBECONFIG": str(release.cluster.kubeconfig), "HOME": str(release.folder)}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    data = release.get("secret", "team-a")["data"]
    values = [base64.b64decode(data[key]).decode() for key in ("read", "write")]
    assert done.stdout.splitlines()[-1] == " ".join(["values", *values])
    assert release.get("repo", "team-a")["spec"]["credentials"]["writeSecretRef"] == {"name": "team-a", "key": "write"}


def test_what_each_account_may_do(release):
    """Beyond the rights of any account. tests/operator exercise each right of the operator."""
    release.helm("install", str(CHART), values=REPOS | {"replicas": 2})
    with release.operating() as operator:
        release.works(operator)
    anyone = rights(release.cluster, release.namespace, "anybody")
    text = "".join(f"{line}\n" for line in sorted(rights(release.cluster, release.namespace, ACCOUNT) - anyone))
    held(GOLDEN / "rights.txt", text)
    for account in ("pywharf", "pywharf-index"):
        assert rights(release.cluster, release.namespace, account) == anyone


def test_what_token_review_costs(release):
    """The server's account may ask whose a token is, and nothing else is added for any account."""
    values = {"server": {"storage": None, "identity": {"serviceAccounts": "TokenReview"}}}
    release.helm("install", str(CHART), values=values)
    anyone = rights(release.cluster, release.namespace, "anybody")
    text = "".join(f"{line}\n" for line in sorted(rights(release.cluster, release.namespace, "pywharf") - anyone))
    held(GOLDEN / "rights-token-review.txt", text)
    held(
        GOLDEN / "rights.txt",
        "".join(f"{line}\n" for line in sorted(rights(release.cluster, release.namespace, ACCOUNT) - anyone)),
    )
    assert rights(release.cluster, release.namespace, "pywharf-index") == anyone


def installer(release, role):
    """Return the kubeconfig of an account that has this ClusterRole's rights in the namespace only."""
    metadata = {"name": "installer", "namespace": release.namespace}
    version = "rbac.authorization.k8s.io/v1"
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    binding = {
        "apiVersion": version,
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", **metadata}],
    }
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [account, binding]})
    release.cluster.kubectl("apply", "-f", "-", input=text)
    kubeconfig = release.cluster.kubeconfig_for("installer", release.namespace)

    def allowed():
        said = release.cluster.kubectl(
            "auth", "can-i", "create", "deployments", f"-n={release.namespace}", "--as", user
        )
        return said.strip() == "yes"

    user = f"system:serviceaccount:{release.namespace}:installer"
    wait_for(lambda: not fails(allowed), "the rights", longest_s=30)
    return kubeconfig


def fails(asked):
    try:
        return not asked()
    except KubectlError:
        return True


def typed_in(section, release):
    """Return the helm commands that follow these words in docs/chart.md, with this namespace and chart."""
    block = (CHECKOUT / "docs" / "chart.md").read_text().partition(section)[2].partition("```console\n")[2]
    lines = block.partition("```")[0].replace("\\\n", " ").splitlines()
    changed = {"packages": release.namespace, "deploy/helm/pywharf": str(CHART)}
    return [[changed.get(word, word) for word in shlex.split(line.removeprefix("$ "))] for line in lines]


def test_by_the_rights_of_one_namespace(release):
    """The commands are those of docs/chart.md, word for word."""
    ((_helm, *install),) = typed_in("`cluster-admin` in the one namespace", release)
    helm(*install, folder=release.folder, kubeconfig=installer(release, "cluster-admin"))
    assert release.get("server", "pywharf") is not None


def test_what_the_role_admin_may_not_do_is_made_for_it(release):
    kubeconfig = installer(release, "admin")
    ((_, *alone),) = typed_in("`cluster-admin` in the one namespace", release)
    with pytest.raises(HelmError, match="forbidden"):
        helm(*alone, folder=release.folder, kubeconfig=kubeconfig)
    assert release.get("server", "pywharf") is None
    release.helm("uninstall", "--ignore-not-found")

    (_, *made), (_, *install) = typed_in("The role `admin` is not", release)
    *template, bar, kubectl, apply, file, dash = made
    assert [bar, kubectl, apply, file, dash] == ["|", "kubectl", "apply", "-f", "-"]
    release.cluster.kubectl("apply", "-f", "-", input=helm(*template, folder=release.folder))
    helm(*install, folder=release.folder, kubeconfig=kubeconfig)
    with release.operating() as operator:
        wait_for(lambda: condition(release.get("server", "pywharf"), "Accepted") == "True", "the server", longest_s=60)
        assert operator.metric("pywharf_operator_leader") == 1
        assert operator.metric("pywharf_operator_api_requests_total", code="403") == 0


@pytest.fixture
def bare(tmp_path):
    """Start a control plane without anything of pywharf, not even its CRDs, for the real kubectl and helm."""
    with ControlPlane(tmp_path / "control-plane", programs()) as plane:
        yield plane


@pytest.mark.timeout(240)
def test_from_nothing_and_what_becomes_of_the_crds(bare, tmp_path):
    """Helm installs the CRDs before the PackageServer. It never changes them later, nor deletes them."""

    def kubectl(*arguments):
        return run_kubectl(bare.programs / "kubectl", bare.kubeconfig, *arguments)

    def described():
        return "A stateless server" in kubectl("get", "crd", "packageservers.pywharf.dev", "--output=yaml")

    old = tmp_path / "old"
    shutil.copytree(CHART, old)
    path = old / "crds" / "pywharf.dev_packageservers.yaml"
    path.write_text(path.read_text().replace("description: A stateless server", "description: Some server"))
    options = ("--namespace=packages", "--create-namespace")
    helm("install", "pywharf", str(old), *options, folder=tmp_path, kubeconfig=bare.kubeconfig)
    assert "pywharf" in kubectl("get", "packageservers", "--namespace=packages", "--output=name")
    assert not described()

    # As docs/chart.md says. Helm owns the fields, because it created them.
    with pytest.raises(KubectlError, match=r"conflict with .helm."):
        kubectl("apply", "--server-side", "-f", str(CRDS))
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    helm("upgrade", "pywharf", str(CHART), "--namespace=packages", folder=tmp_path, kubeconfig=bare.kubeconfig)
    assert described()
    helm("uninstall", "pywharf", "--namespace=packages", folder=tmp_path, kubeconfig=bare.kubeconfig)
    assert described()
    assert kubectl("get", "packageservers", "--namespace=packages", "--output=name") == ""


@pytest.mark.timeout(240)
def test_stop_cluster_leaves_crds_that_others_use(bare, tmp_path):
    """`make stop-cluster` after `make run-cluster CONTEXT=…` on a cluster that had no CRDs before."""
    if not bare.has_controllers:
        missing("kube-controller-manager", "the namespace is deleted by it")
    environment = {"KUBECONFIG": str(bare.kubeconfig), "HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    tools = Tools(str(bare.programs / "kubectl"), str(program(cluster_build.HELM, "helm")), environment)
    said: list[str] = []

    def stopped():
        uninstall(tools, [], said.append)
        assert not namespace_is_there(tools)
        return sorted(crds_there(tools))

    tools.run_helm("install", "pywharf", str(CHART), "--namespace=pywharf", "--create-namespace")
    tools.run_kubectl("create", "namespace", "theirs")
    theirs = ("--namespace=theirs", f"--filename={CHECKOUT / 'examples' / 'quickstart'}")
    tools.run_kubectl("apply", *theirs)
    every = ["packagepolicies.pywharf.dev", "packagerepos.pywharf.dev", "packageservers.pywharf.dev"]
    assert stopped() == every
    assert said[-1].startswith(f"keeping {', '.join(every)}")
    assert "demo" in tools.run_kubectl("get", "packagerepos", "--namespace=theirs", "--output=name")
    tools.run_kubectl("delete", *theirs)
    assert stopped() == []
