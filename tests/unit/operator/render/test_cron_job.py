"""The CronJob of each repo: its name, its arguments, and that it receives only what belongs to its repo."""

import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.cli.update_index import update_index_command
from pywharf.config import object_stores
from pywharf.config.repo_config import FileSystemSpec
from pywharf.core.endpoints import PUBLIC_ENDPOINTS
from pywharf.core.names import RepoName
from pywharf_operator.local.folder import default_server, snapshot_of
from pywharf_operator.render import Environment, resolve
from pywharf_operator.render.objects.cron_job import cron_job_name, cron_jobs
from pywharf_operator.render.objects.job import update_job
from pywharf_operator.render.pod.job_pod import every_map
from pywharf_operator.render.pod.pod_template import pod_template
from pywharf_operator.render.pod.strategic_merge import InvalidPodTemplateError
from pywharf_operator.spec import PackageServer
from support.distributions.wheels import wheel
from support.operator.manifest_text import parsed
from support.operator.store_keys import S3_KEYS


class S3Spec(object_stores.S3Spec, frozen=True, kw_only=True, tag="s3"):
    lists: tuple[str, ...] = ("a",)


ENVIRONMENT = Environment(specs={"file_system": FileSystemSpec, "s3": S3Spec}, image="pywharf:1")
SERVER = """
apiVersion: pywharf.dev/v1alpha1
kind: PackageServer
metadata: {name: pywharf, namespace: servers, uid: u-1}
spec: SPEC
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: ml, labels: {pywharf.dev/credentials: "true"}}
stringData: {read: a-read, write: a-write, backend: BACKEND}
---
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {name: files, namespace: ml}
spec:
  serverRef: {namespace: servers}
  backend: {fileSystem: {maxFileBytes: 7}}
  credentials: {readSecretRef: {name: keys, key: read}, writeSecretRef: {name: keys, key: write}}
  index: {schedule: "1 2 * * *", timeZone: Europe/Paris, suspend: true, syncIntervalSeconds: 5}
  upstream: {reserved: [a]}
---
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {name: wheels, namespace: ml}
spec:
  serverRef: {namespace: servers}
  repoName: wheels_1
  backend: {s3: {bucket: abc, prefix: a/, allowHTTP: true}}
  credentials: CREDENTIALS
---
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {name: broken, namespace: ml}
spec: {serverRef: {namespace: servers}, backend: {fileSystem: {}}}
"""
STORAGE = "storage: {size: 1Gi}"
TMP = "/tmp"
KEYS = "{anonymousRead: true, readOnly: true, backendSecretRef: {name: keys, key: backend}}"
NO_KEYS = "{anonymousRead: true, readOnly: true}"


def jobs(spec=STORAGE, credentials=KEYS):
    """Render the CronJobs, by repo name."""
    text = SERVER.replace("SPEC", f"{{allowedNamespaces: {{from: All}}, {spec}}}")
    found = parsed(text.replace("CREDENTIALS", credentials).replace("BACKEND", json.dumps(S3_KEYS)))
    assert found.problems == ()
    (server,) = resolve(snapshot_of(found), ENVIRONMENT).servers
    # Jobs of a refused server are never rendered; here they show that each refused template would fit none.
    server = msgspec.structs.replace(server, pod=server.pod or pod_template(server.server, ENVIRONMENT))
    made = cron_jobs(server, ENVIRONMENT, shard_count=1)
    return {job["metadata"]["labels"]["pywharf.dev/repo"]: job for job in made}


def template(job):
    return job["spec"]["jobTemplate"]["spec"]["template"]


def pod(job):
    return template(job)["spec"]


def container(job):
    (only,) = pod(job)["containers"]
    return only


def test_one_for_each_served_repo():
    made = jobs()
    assert {repo: job["metadata"]["name"] for repo, job in made.items()} == {
        "files": "pywharf-index-files",
        "wheels_1": cron_job_name(default_server("servers"), RepoName("wheels_1")),
    }
    for job in made.values():
        assert job["metadata"]["namespace"] == "servers"
        assert job["metadata"]["ownerReferences"][0]["uid"] == "u-1"
        assert job["metadata"]["labels"]["app.kubernetes.io/component"] == "index"
        assert job["metadata"]["labels"]["pywharf.dev/server"] == "pywharf"
        assert job["spec"]["jobTemplate"]["metadata"]["labels"] == job["metadata"]["labels"]
        assert template(job)["metadata"]["labels"] == job["metadata"]["labels"]


def test_when_it_runs():
    spec = jobs()["files"]["spec"]
    assert {field: value for field, value in spec.items() if field != "jobTemplate"} == {
        "schedule": "1 2 * * *",
        "timeZone": "Europe/Paris",
        "suspend": True,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 600,
        "successfulJobsHistoryLimit": 1,
        "failedJobsHistoryLimit": 1,
    }
    job = spec["jobTemplate"]["spec"]
    assert (job["backoffLimit"], job["activeDeadlineSeconds"], job["ttlSecondsAfterFinished"]) == (2, 10800, 86400)
    assert re.fullmatch(r"[0-9]+ \* \* \* \*", jobs()["wheels_1"]["spec"]["schedule"])


@pytest.mark.parametrize(
    ("repo", "credentials", "arguments"),
    [
        (
            "files",
            KEYS,
            [
                *("update_index", "file_system", "files", "--root=/var/lib/pywharf"),
                *("--index_filename=index.json", "--max_file_bytes=7", "--owner=ml/files"),
                "--report=/dev/termination-log",
            ],
        ),
        (
            "wheels_1",
            KEYS,
            [
                *("update_index", "s3", "wheels_1", "--root=/tmp"),
                *("--index_filename=index.json", "--prefix=a/", "--allow_http=true", "--bucket=abc"),
                "--report=/dev/termination-log",
                f"--allowed_endpoints={','.join(PUBLIC_ENDPOINTS)}",
                "--secret_file=/etc/pywharf/wheels_1.backend",
            ],
        ),
        (
            "wheels_1",
            NO_KEYS,
            [
                *("update_index", "s3", "wheels_1", "--root=/tmp"),
                *("--index_filename=index.json", "--prefix=a/", "--allow_http=true", "--ambient_identity=true"),
                "--bucket=abc",
                "--report=/dev/termination-log",
                f"--allowed_endpoints={','.join(PUBLIC_ENDPOINTS)}",
            ],
        ),
    ],
)
def test_arguments(repo, credentials, arguments):
    made = jobs(f"{STORAGE}, ambientIdentity: {{namespaces: [ml]}}", credentials)[repo]
    assert container(made)["args"] == arguments


def test_the_command_has_these_flags():
    known = {name for option in update_index_command.params for name in option.opts}
    assert {"--root", "--report", "--secret_file", "--allowed_endpoints"} <= known


def test_the_command_takes_the_arguments(tmp_path):
    (root := tmp_path / "root").mkdir()
    report = tmp_path / "report"
    folders = {"--root=/var/lib/pywharf": f"--root={root}", "--report=/dev/termination-log": f"--report={report}"}
    arguments = [folders.get(argument, argument) for argument in container(jobs()["files"])["args"]]
    folder = root / "cache" / "files"
    (folder / "storage" / "one").mkdir(parents=True)  # the kubelet creates the path up to `files`
    wheel(folder / "storage" / "one", "one")
    for changed in (True, False):
        update_index_command.main(arguments[1:], standalone_mode=False)
        found = json.loads(report.read_text())
        assert (found["files"], found["changed"]) == (1, changed)
    assert (folder / "storage" / "index.json").is_file()
    outside = [path for path in root.rglob("*") if folder not in (path, *path.parents)]
    assert outside == [root / "cache"], "only that folder is mounted"


def volumes(job):
    """Return each mounted volume by its mount path."""
    named = {volume["name"]: {k: v for k, v in volume.items() if k != "name"} for volume in pod(job)["volumes"]}
    return {
        mount["mountPath"]: named.pop(mount["name"]) | {k: v for k, v in mount.items() if k in {"subPath", "readOnly"}}
        for mount in container(job)["volumeMounts"]
    } | named


def test_only_what_is_the_repo_s_is_mounted():
    made = jobs()
    assert volumes(made["files"]) == {
        TMP: {"emptyDir": {}},
        "/var/lib/pywharf/cache/files": {
            "persistentVolumeClaim": {"claimName": "pywharf-data"},
            "subPath": "cache/files",
        },
    }
    items = [{"key": "wheels_1.backend", "path": "wheels_1.backend"}]
    assert volumes(made["wheels_1"]) == {
        TMP: {"emptyDir": {}},
        "/etc/pywharf": {
            "secret": {"secretName": "pywharf-credentials", "defaultMode": 0o440, "items": items},
            "readOnly": True,
        },
    }
    assert set(volumes(jobs(f"{STORAGE}, ambientIdentity: {{namespaces: [ml]}}", NO_KEYS)["wheels_1"])) == {TMP}


@pytest.mark.parametrize(
    ("storage", "replicas", "beside"),
    [
        ("{size: 1Gi}", 1, True),
        ("{size: 1Gi}", 0, False),
        ("{existingClaim: mine}", 1, True),
        ("{size: 1Gi, accessModes: [ReadWriteMany]}", 3, False),
    ],
)
def test_beside_the_server_where_the_volume_is_not_shared(storage, replicas, beside):
    made = jobs(f"storage: {storage}, replicas: {replicas}")
    assert "affinity" not in pod(made["wheels_1"])
    assert ("affinity" in pod(made["files"])) == beside
    if beside:
        affinity = pod(made["files"])["affinity"]["podAffinity"]
        (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["topologyKey"] == "kubernetes.io/hostname"
        assert term["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "server"
    claim = "mine" if "mine" in storage else "pywharf-data"
    assert {"claimName": claim} in [volume.get("persistentVolumeClaim") for volume in pod(made["files"])["volumes"]]


def test_a_restricted_pod():
    for job in jobs().values():
        spec, only = pod(job), container(job)
        assert spec["restartPolicy"] == "Never"
        assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("pywharf-index", False)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert only["securityContext"]["readOnlyRootFilesystem"] is True
        assert only["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert only["terminationMessagePath"] == "/dev/termination-log"
        assert only["terminationMessagePolicy"] == "FallbackToLogsOnError"
        assert set(only["resources"]) == {"requests", "limits"}
        assert "s3-secret-value" not in str(job)


POD_TEMPLATE = """podTemplate: {
  metadata: {labels: {team: x, pywharf.dev/repo: stolen}, annotations: {a: b}},
  spec: {nodeSelector: {disk: fast}, tolerations: [{key: t}], imagePullSecrets: [{name: pull}], affinity: {},
         priorityClassName: low, runtimeClassName: gvisor, hostNetwork: true, serviceAccountName: identity,
         containers: [{name: server, image: other}]}}"""


def test_jobs_inherit_what_schedules_admits_and_isolates_pods():
    made = jobs(f"{STORAGE}, ambientIdentity: {{namespaces: [ml]}}, {POD_TEMPLATE}", NO_KEYS)
    for repo, account in (("files", "pywharf-index"), ("wheels_1", "identity")):
        spec = pod(made[repo])
        assert spec["nodeSelector"] == {"disk": "fast"}
        assert spec["tolerations"] == [{"key": "t"}]
        assert spec["imagePullSecrets"] == [{"name": "pull"}]
        assert (spec["priorityClassName"], spec["runtimeClassName"]) == ("low", "gvisor")
        assert ("affinity" in spec) == (repo == "files")
        assert "hostNetwork" not in spec
        assert container(made[repo])["image"] == "pywharf:1"
        assert spec["serviceAccountName"] == account
        labels = template(made[repo])["metadata"]["labels"]
        assert (labels.get("team"), labels["pywharf.dev/repo"]) == (None, repo)
        assert "annotations" not in template(made[repo])["metadata"]


OWN = """labels: {team: all, stage: live}, annotations: {all: "1", both: server}, jobs: {
  labels: {team: jobs}, annotations: {both: jobs, sidecar.istio.io/inject: "false"},
  resources: {limits: {memory: 2Gi, cpu: 1}},
  podTemplate: {metadata: {labels: {pod: only, pywharf.dev/repo: stolen}, annotations: {all: null}},
    spec: {nodeSelector: {disk: null, jobs: pool}, securityContext: {runAsUser: 1},
           containers: [{name: index, env: [{name: A, value: b}]}]}}},
  podTemplate: {metadata: {annotations: {sidecar.istio.io/inject: "true"}},
    spec: {nodeSelector: {disk: fast}, securityContext: {supplementalGroups: [5]}}}"""


def test_what_jobs_have_of_their_own():
    made = jobs(f"{STORAGE}, {OWN}")["files"]
    job, of_pod = made["spec"]["jobTemplate"]["metadata"], template(made)["metadata"]
    own = {"team": "jobs", "stage": "live"}
    assert own.items() <= job["labels"].items()
    assert (own | {"pod": "only"}).items() <= of_pod["labels"].items()
    assert of_pod["labels"]["pywharf.dev/repo"] == job["labels"]["pywharf.dev/repo"] == "files"
    assert "pod" not in job["labels"]
    digest = {"pywharf.dev/template": job["annotations"]["pywharf.dev/template"]}
    assert job["annotations"] == {"all": "1", "both": "jobs", "sidecar.istio.io/inject": "false"} | digest
    assert of_pod["annotations"] == {"both": "jobs", "sidecar.istio.io/inject": "false"}
    # The CronJob itself is an object of the server like any other.
    assert made["metadata"]["annotations"] == {"all": "1", "both": "server"}
    assert {"team": "all", "stage": "live"}.items() <= made["metadata"]["labels"].items()
    spec, only = pod(made), container(made)
    assert spec["nodeSelector"] == {"jobs": "pool"}
    security = spec["securityContext"]
    assert (security["runAsUser"], security["supplementalGroups"], security["fsGroup"]) == (1, [5], 65532)
    assert only["env"] == [{"name": "A", "value": "b"}]
    assert only["resources"] == {
        "requests": {"ephemeral-storage": "64Mi"},
        "limits": {"memory": "2Gi", "cpu": "1", "ephemeral-storage": "10Gi"},
    }
    run = update_job(made, "now")
    assert run["metadata"]["labels"] == job["labels"]
    assert run["metadata"]["annotations"] == job["annotations"] | {"cronjob.kubernetes.io/instantiate": "manual"}


def kinds(value, path=""):
    """Yield the paths of maps and lists, as `a.b`. Items of lists are skipped, except containers."""
    if isinstance(value, dict):
        yield path, "map"
        for key, item in value.items():
            yield from kinds(item, f"{path}.{key}")
    elif isinstance(value, list):
        yield path, "list"
        if path == ".containers":
            yield from kinds(value[0], f"{path}[]")


def test_what_a_template_is_checked_against_has_every_map():
    """Otherwise an accepted patch could fail for the Job of one repo."""
    (server,) = parsed(SERVER.replace("SPEC", "{}").partition("---")[0], "x").of(PackageServer)
    known = set(kinds(every_map(server)))
    for credentials in (KEYS, NO_KEYS):
        for job in jobs(f"{STORAGE}, ambientIdentity: {{namespaces: [ml]}}", credentials).values():
            assert set(kinds(pod(job))) <= known


BAD_JOB_TEMPLATES = {
    "{kind: Pod}": "spec.jobs.podTemplate holds kind; here there may be metadata and spec.",
    "{metadata: {labels: {a: 1}}}": "spec.jobs.podTemplate.metadata.labels: a must be a text; put its value in quotes.",
    "{spec: {containers: [{name: index, $patch: delete}]}}": (
        "spec.jobs.podTemplate.spec.containers leaves out the container 'index'; patch it, but keep it."
    ),
    "{spec: {affinity: [a]}}": "spec.jobs.podTemplate.spec.affinity must be a map.",
    "{spec: {affinity: {podAffinity: 3}}}": "spec.jobs.podTemplate.spec.affinity.podAffinity must be a map.",
    "{spec: {securityContext: x}}": "spec.jobs.podTemplate.spec.securityContext must be a map.",
    "{spec: {securityContext: {seccompProfile: x}}}": (
        "spec.jobs.podTemplate.spec.securityContext.seccompProfile must be a map."
    ),
    "{spec: {containers: [{name: index, resources: 3}]}}": (
        "spec.jobs.podTemplate.spec.containers[0].resources must be a map."
    ),
    "{spec: {containers: [{name: index, args: {}}]}}": (
        "spec.jobs.podTemplate.spec.containers[0].args cannot be a map."
    ),
    "{spec: {volumes: [{emptyDir: {}}]}}": (
        "spec.jobs.podTemplate.spec.volumes[0].name is missing; items of this list are told apart by it."
    ),
}


@pytest.mark.parametrize("patch", BAD_JOB_TEMPLATES)
def test_a_template_that_fits_no_job(patch):
    """The server's condition reports it, whatever repos exist."""
    text = SERVER.replace("SPEC", f"{{{STORAGE}, jobs: {{podTemplate: {patch}}}}}").partition("---")[0]
    found = parsed(text)
    assert found.problems == ()
    (server,) = resolve(snapshot_of(found), ENVIRONMENT).servers
    assert (server.accepted.reason, server.accepted.message) == ("InvalidPodTemplate", BAD_JOB_TEMPLATES[patch])
    with pytest.raises(InvalidPodTemplateError):
        jobs(f"{STORAGE}, jobs: {{podTemplate: {patch}}}")


AROUND = """podTemplate: {spec: {
  containers: [{name: server,
    env: [{name: HTTPS_PROXY, value: "http://proxy:3128"}, {name: SSL_CERT_FILE, value: /etc/ca/ca.crt},
          {name: MEMORY, valueFrom: {resourceFieldRef: {containerName: server, resource: limits.memory}}}],
    envFrom: [{configMapRef: {name: proxies}}],
    volumeMounts: [{name: ca, mountPath: /etc/ca, readOnly: true}, {name: scratch, mountPath: /scratch},
                   {name: scratch, mountPath: /tmp}, {name: data, mountPath: /again}]},
    {name: sidecar, image: x, env: [{name: OTHER, value: y}], volumeMounts: [{name: keys, mountPath: /keys}]}],
  volumes: [{name: ca, configMap: {name: ca}}, {name: keys, secret: {secretName: keys}},
            {name: scratch, persistentVolumeClaim: {claimName: scratch}}]}}"""


def test_of_the_server_s_container_what_surrounds_it():
    """Otherwise a Job behind a proxy, or with a storage behind a private CA, would fail where its server does not."""
    for repo, job in jobs(f"{STORAGE}, {AROUND}").items():
        only, plain = container(job), container(jobs()[repo])
        assert [one["name"] for one in only["env"]] == ["HTTPS_PROXY", "SSL_CERT_FILE"]
        assert only["envFrom"] == [{"configMapRef": {"name": "proxies"}}]
        added = [one for one in only["volumeMounts"] if one not in plain["volumeMounts"]]
        assert added == [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}]
        volumes, before = pod(job)["volumes"], pod(jobs()[repo])["volumes"]
        assert [one for one in volumes if one not in before] == [{"name": "ca", "configMap": {"name": "ca"}}]
        assert [one for one in before if one not in volumes] == []
        assert len(pod(job)["containers"]) == 1


@pytest.mark.parametrize(
    "odd",
    [
        "env: [{name: A, valueFrom: 3}]",
        "env: [{name: A, valueFrom: [x]}]",
        "envFrom: x",
        "volumeMounts: [{mountPath: /a}]",
        "volumeMounts: [{mountPath: /a, name: [ca]}]",
        "volumeMounts: [{mountPath: 3, name: {ca: ca}}]",
    ],
)
def test_what_the_api_server_will_refuse_is_no_fault_here(odd):
    volumes = "volumes: [{name: ca, configMap: {name: ca}}]"
    assert jobs(f"{STORAGE}, podTemplate: {{spec: {{containers: [{{name: server, {odd}}}], {volumes}}}}}")


def test_a_pod_template_that_fits_no_pod():
    with pytest.raises(InvalidPodTemplateError, match="nodeSelector"):
        jobs(f"{STORAGE}, podTemplate: {{spec: {{nodeSelector: {{$patch: sometimes}}}}}}")


def test_the_server_s_image():
    assert container(jobs(f"{STORAGE}, image: mine:2")["files"])["image"] == "mine:2"


def server(name):
    text = f"""
apiVersion: pywharf.dev/v1alpha1
kind: PackageServer
metadata: {{name: {name}, namespace: ml}}
"""
    (made,) = parsed(text).of(PackageServer)
    return made


LOOKS_HASHED = "a-0123456789abcdef"
NAMES = [
    # server, repo, whether the name is simply both joined
    ("pywharf", "team-a", True),
    ("pywharf", "a" * 38, True),
    ("pywharf", "a" * 39, False),
    ("pywharf", "a.b", False),
    ("pywharf", "a_b", False),
    ("s" * 50, "a", False),
    ("pywharf", LOOKS_HASHED, False),
    ("a", "index-b", False),
    ("a-index", "b", False),
    ("index", "b", True),
    ("a", "b-index", True),
]


@pytest.mark.parametrize(("name", "repo", "plain"), NAMES, ids=range(len(NAMES)))
def test_names(name, repo, plain):
    made = cron_job_name(server(name), RepoName(repo))
    assert (made == f"{name}-index-{repo}") == plain
    assert len(made) <= 52
    assert re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", made)


PARTS = st.lists(st.sampled_from(["a", "b", "index", "0123456789abcdef", "x" * 20]), min_size=1, max_size=4)
REPOS = st.builds("".join, st.tuples(PARTS.map("-".join), st.sampled_from(["", ".a", "_a", "-a", "--a"])))
KEYS_OF_JOBS = st.tuples(PARTS.map(lambda parts: "s" + "-".join(parts)[:49].rstrip("-")), REPOS)


@given(st.sets(KEYS_OF_JOBS, min_size=2, max_size=30))
def test_no_two_repos_of_a_namespace_have_one_name(keys):
    names = [cron_job_name(server(name), RepoName(repo)) for name, repo in keys]
    assert len(set(names)) == len(keys)
    assert all(len(name) <= 52 and re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", name) for name in names)


def test_a_job_that_starts_immediately():
    cron_job = jobs()["files"]
    made = update_job(cron_job, "now")
    assert made == update_job(cron_job, "now")
    assert (made["apiVersion"], made["kind"]) == ("batch/v1", "Job")
    assert re.fullmatch("pywharf-index-files-[0-9a-f]{10}", made["metadata"]["name"])
    assert made["metadata"]["namespace"] == "servers"
    of_template = cron_job["spec"]["jobTemplate"]["metadata"]["annotations"]
    assert made["metadata"]["annotations"] == of_template | {"cronjob.kubernetes.io/instantiate": "manual"}
    assert set(of_template) == {"pywharf.dev/template"}
    assert made["metadata"]["labels"] == cron_job["metadata"]["labels"]
    assert made["metadata"]["ownerReferences"] == cron_job["metadata"]["ownerReferences"]
    assert made["spec"] == cron_job["spec"]["jobTemplate"]["spec"]


def test_another_pod_template_has_another_digest():
    """A template that merely lacks something has another digest, too. Changes outside the pod do not count."""
    made = [jobs(fields)["files"] for fields in (STORAGE, f"{STORAGE}, security: {{userIDs: FromCluster}}", STORAGE)]
    found = [one["spec"]["jobTemplate"]["metadata"]["annotations"]["pywharf.dev/template"] for one in made]
    assert found[0] == found[2]
    assert found[0] != found[1]


def test_names_of_jobs_that_start_immediately():
    files, wheels = jobs()["files"], jobs()["wheels_1"]
    made = [(files, "1"), (files, "2"), (wheels, "1"), (files, ""), (files, "\udc80 a\nvery" * 1000)]
    names = [update_job(cron_job, trigger)["metadata"]["name"] for cron_job, trigger in made]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 63 for name in names)
