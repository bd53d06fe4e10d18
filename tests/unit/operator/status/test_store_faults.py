"""What a store's refusal becomes: a condition of the repo that says what to do, from a replica and from a Job."""

import json
from datetime import datetime

import msgspec
import pytest

from pywharf.backends.object_store.failures import failure
from pywharf.cli.report import of_failure
from pywharf.core.errors import PreconditionsIgnoredError, PywharfError
from pywharf.core.names import parse_repo_name
from pywharf.core.reports import ConfigReport, Fault
from pywharf_operator.index_updates.state import index_state
from pywharf_operator.render.resolve.findings import REASONS
from pywharf_operator.spec import API_VERSION, ObjectMeta, PackageRepo, PackageRepoSpec
from pywharf_operator.spec.backends import S3, Backend
from pywharf_operator.status.programmed import ConfigHistory, ReplicaReport, programmed

NAME = parse_repo_name("team-a")
BUCKET = "bucket 'wheels'"


def answered(status: int, code: str, more: str = "") -> Exception:
    """Return an error as obstore raises it for such an answer."""
    body = f"<Error><Code>{code}</Code><Message>hush</Message>{more}</Error>"
    return OSError(
        f"Generic S3 error: Error performing GET https://s3.example/wheels?list-type=2 in 1ms - Server returned "
        f"non-2xx status code: {status} Forbidden: {body}"
    )


FAULTS: list[tuple[str, PywharfError, str, str]] = [
    # what is wrong, the server's error, the reason of Programmed, words of the remedy
    (
        "an unknown key",
        failure(answered(403, "InvalidAccessKeyId"), BUCKET),
        "BrokenOnReplica",
        "does not know the access key; put valid keys into the repo's secret",
    ),
    (
        "a wrong secret key",
        failure(answered(403, "SignatureDoesNotMatch"), BUCKET),
        "BrokenOnReplica",
        "the secret key is wrong; put valid keys into the repo's secret",
    ),
    ("an expired token", failure(answered(400, "ExpiredToken"), BUCKET), "BrokenOnReplica", "expired; put new ones"),
    ("no rights", failure(answered(403, "AccessDenied"), BUCKET), "BrokenOnReplica", "give the credentials the rights"),
    ("no bucket", failure(answered(404, "NoSuchBucket"), BUCKET), "BrokenOnReplica", "does not exist; create it"),
    (
        "another region",
        failure(answered(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"), BUCKET),
        "BrokenOnReplica",
        "keeps the bucket in the region eu-west-1; set the repo's region",
    ),
    ("a redirect", failure(answered(301, "PermanentRedirect"), BUCKET), "BrokenOnReplica", "set the repo's region"),
    (
        "ignored preconditions",
        PreconditionsIgnoredError("replaces an object that is only to be created (If-None-Match)"),
        "PreconditionsIgnored",
        "Use a store with conditional writes",
    ),
]
IDS = [what for what, *_ in FAULTS]


@pytest.mark.parametrize(("error", "reason", "remedy"), [fault[1:] for fault in FAULTS], ids=IDS)
def test_on_a_replica(error, reason, remedy):
    sent = msgspec.json.encode(ConfigReport("digest", {NAME: Fault(error.code, str(error))}))
    report = msgspec.json.decode(sent, type=ConfigReport)
    history = ConfigHistory()
    history.remember("digest", {NAME: "content"})
    replica = ReplicaReport(pod="pywharf-x", digest=report.digest, broken=report.broken, failure=None)
    found = programmed(NAME, "content", [replica], history)
    assert (found.status, found.reason) == (False, reason)
    assert found.reason in REASONS["PackageRepo Programmed"]
    assert found.message.startswith("Replica pywharf-x cannot serve it: ")
    assert remedy in found.message
    assert "hush" not in found.message


@pytest.mark.parametrize(("error", "remedy"), [(fault[1], fault[3]) for fault in FAULTS], ids=IDS)
def test_in_a_job(error, remedy):
    repo = PackageRepo(
        api_version=API_VERSION,
        kind="PackageRepo",
        metadata=ObjectMeta(name="team-a", namespace="ml"),
        spec=PackageRepoSpec(backend=Backend(s3=S3(bucket="wheels"))),
    )
    at = "2026-01-01T12:00:00Z"
    ended = {"type": "Failed", "status": "True", "lastTransitionTime": at, "reason": "BackoffLimitExceeded"}
    job = {"metadata": {"name": "a", "creationTimestamp": at}, "status": {"conditions": [ended]}}
    terminated = {"exitCode": 1, "reason": "Error", "message": of_failure(str(error)).decode()}
    pod = {
        "metadata": {"name": "a-x", "labels": {"batch.kubernetes.io/job-name": "a"}, "creationTimestamp": at},
        "status": {"containerStatuses": [{"name": "index", "state": {"terminated": terminated}}]},
    }
    finding, state = index_state(repo, [job], [pod], datetime.fromisoformat(at))
    assert (finding.status, finding.reason) == (False, "UpdateFailed")
    assert remedy in finding.message
    assert state.last_result is not None
    assert remedy in state.last_result
    assert "hush" not in json.dumps([finding.message, state.last_result])
