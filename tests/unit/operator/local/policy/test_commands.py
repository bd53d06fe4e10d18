"""`pywharf policy test` and `pywharf policy explain`: exit status, text and JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result

from pywharf.core.errors import InvalidConfigError
from pywharf_operator.local.policy import policy
from support.advisories import affected, entry, lines, malware, zipped
from support.server.upstream import Answer, Upstream, upstream

NOW = "2026-11-27T00:00:00Z"
IMMATURE = "withheld by Cooldown of packages/company: younger than 7d (until 2026-12-03T00:00:00Z)"
TIMELESS = "withheld by Cooldown of packages/company: its upload time is missing"
OLD, YOUNG = "2020-01-01T00:00:00Z", "2026-11-26T00:00:00Z"
REPO = """
apiVersion: pywharf.dev/v1alpha1
kind: PackageRepo
metadata: {name: team-a, namespace: ml}
spec:
  serverRef: {name: pywharf, namespace: packages}
  backend: {fileSystem: {}}
  upstream: {url: URL, reserved: ["acme-*"]}
"""
POLICY = """
apiVersion: pywharf.dev/v1alpha1
kind: PackagePolicy
metadata: {name: company, namespace: packages}
spec:
  targetRefs: [{kind: PackageServer, name: pywharf}]
  cooldown: {minimumAge: 7d}
  deny: [{project: litellm, versions: "==1.82.7", reason: "stolen release"}]
  yank: [{project: six, versions: "<1", reason: "too old"}]
  status: [{project: acme-old, status: archived, reason: "use acme-new"}]
  exceptions:
  - {project: requests, versions: "==2.33.1", of: [Cooldown], until: "2027-01-31T00:00:00Z", reason: "fixes a CVE"}
"""

Run = Callable[..., Result]


def page(*files: tuple[str, str | None]) -> Answer:
    """Return a page of files with their upload times; the digest of a file is its position."""
    entries = [
        {
            "filename": name,
            "url": f"/files/{name}",
            "hashes": {"sha256": f"{number:064}"},
            "size": 1,
            **({"upload-time": uploaded} if uploaded else {}),
        }
        for number, (name, uploaded) in enumerate(files)
    ]
    return Answer(json.dumps({"meta": {"api-version": "1.1"}, "name": "x", "files": entries}).encode())


@pytest.fixture(scope="module")
def index() -> Any:
    with upstream() as running:
        running.answers = {
            "requests": page(("requests-2.33.1.tar.gz", YOUNG), ("requests-2.33.0.tar.gz", OLD)),
            "six": page(
                ("six-1.0.tar.gz", OLD), ("six-1.1.tar.gz", YOUNG), ("six-0.9.zip", OLD), ("six-2.0.zip", None)
            ),
            "litellm": page(("litellm-1.82.7.tar.gz", OLD)),
            "broken": Answer(b"{"),
        }
        yield running


@pytest.fixture
def run(tmp_path: Path, index: Upstream) -> Run:
    """Run a command on a folder with the repo and the policy."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "repo.yaml").write_text(REPO.replace("URL", index.url))
    (folder / "policy.yaml").write_text(POLICY)
    index.requests.clear()

    def run(
        command: str, *args: str, lock: str | None = None, name: str = "requirements.txt", now: str = NOW
    ) -> Result:
        given = [command, str(folder), *args, f"--now={now}"]
        if lock is not None:
            (tmp_path / name).write_text(lock)
            given.append(f"--lock={tmp_path / name}")
        return CliRunner().invoke(policy, given)

    return run


def judged(run: Run, lock: str, *args: str, **more: str) -> Result:
    return run("test", "--repo=team-a", *args, lock=lock, **more)


@pytest.mark.parametrize(
    ("lock", "status", "words"),
    [
        ("six==1.0\n", 0, ["None is withheld of 1 pins, with 1 policy about the repo 'team-a'."]),
        (
            "six==1.1\n",
            1,
            [
                "six 1.1 is withheld:",
                f"  six-1.1.tar.gz: {IMMATURE}",
                "1 is withheld of 1 pins",
            ],
        ),
        ("six==2.0\n", 1, [f"six-2.0.zip: {TIMELESS}"]),
        (f"six==1.1 --hash=sha256:{1:064}\n", 1, ["six-1.1.tar.gz: withheld by Cooldown"]),
        (f"six==1.1 --hash=sha256:{9:064}\n", 1, ["six-1.1.tar.gz: withheld by Cooldown", "is missing"]),
        ("litellm==1.82.7\n", 1, ["withheld by Deny of packages/company: stolen release\n"]),
        ("requests==2.33.1\n", 0, ["None is withheld"]),
        ("six==0.9\n", 0, ["None is withheld", "note: 'six' 0.9 is shown as yanked\n"]),
        ("six==3\n", 1, [f"six-3.tar.gz: {TIMELESS}"]),
        ("acme-x==1\n", 0, ["None is withheld"]),
        ("gone==1\n", 0, ["note: 'gone' is not in the extra index, so it counts as the repo's own project"]),
        ("", 2, ["None is withheld of 0 pins", "note: the lock file has no pin that can be tested"]),
        ("litellm==1.82.7,>=1\n", 1, ["withheld by Deny"]),
        ("litellm==1.82.7;sys_platform!='.zip '\n", 1, ["withheld by Deny"]),
        ("https://x.example/litellm-1.82.7.tar.gz\n", 1, ["only denials are tested", "withheld by Deny"]),
        ("litellm @ https://x.example/litellm-1.82.7.tar.gz\n", 1, ["withheld by Deny"]),
        ("six==1.0\n-i https://x.example -r other.txt\n", 0, ["-r other.txt' is an option that is not followed"]),
        ("six==1.0\n--requirem other.txt\n", 0, ["'--requirem other.txt' is an option that is not followed"]),
        ("six==1.0\n-qr other.txt\n", 0, ["'-qr other.txt' is an option that is not followed"]),
    ],
)
def test_the_pins_of_a_lock_file(run: Run, lock: str, status: int, words: list[str]) -> None:
    result = judged(run, lock)
    assert result.exit_code == status, result.output
    for one in words:
        assert one in result.output


def test_reserved_and_own_names_are_never_asked_upstream(run: Run, index: Upstream) -> None:
    assert judged(run, "acme-x==1\ninternal-y==1\nsix==1.0\n", "--own=internal-*, other").exit_code == 0
    assert {request.path for request in index.requests} == {"/simple/six/"}


def test_offline_a_missing_time_is_missing(run: Run, index: Upstream) -> None:
    result = judged(run, "six==1.0\n", "--offline")
    assert result.exit_code == 1
    assert "its upload time is missing" in result.output
    assert index.requests == []


OURS = "https://packages.example/repo/team-a/simple/"
UV = """version = 1
[[package]]
name = "six"
version = "1.1"
source = { registry = "INDEX" }
sdist = { url = "URL/six-1.1.tar.gz", hash = "sha256:HASH", upload-time = "TIME" }
"""


@pytest.mark.parametrize(
    ("index_url", "url", "uploaded", "status"),
    [
        (OURS, "https://files.example", OLD, 0),
        (OURS, "https://files.example", YOUNG, 1),
        (OURS, f"{OURS}six", YOUNG, 0),
        (OURS.rstrip("/"), f"{OURS}six", YOUNG, 0),
        (OURS, "https://packages.example/repo/team-ab/six", YOUNG, 1),
        ("https://proxy.example/simple/", "https://proxy.example/simple/six", YOUNG, 1),
    ],
)
def test_a_uv_lock_has_upload_times_and_urls(
    run: Run, index: Upstream, index_url: str, url: str, uploaded: str, status: int
) -> None:
    lock = UV.replace("INDEX", index_url).replace("URL", url).replace("TIME", uploaded).replace("HASH", "a" * 64)
    assert judged(run, lock, name="uv.lock").exit_code == status
    assert index.requests == []


def test_a_decoy_makes_no_other_pin_the_repo_s_own(run: Run) -> None:
    real = UV.replace("INDEX", OURS).replace("URL", "https://files.example").replace("TIME", YOUNG)
    decoy = UV.replace("INDEX", OURS).replace("URL", f"{OURS}six").replace("TIME", YOUNG).replace("1.1", "1.0")
    lock = (real + decoy.removeprefix("version = 1\n")).replace("HASH", "a" * 64)
    result = judged(run, lock, name="uv.lock")
    assert result.exit_code == 1
    assert "note: 'six' 1.0 counts as the repo's own" in result.output


def test_a_file_s_own_version_counts_besides_the_lock_s(run: Run) -> None:
    lock = UV.replace("six", "litellm").replace('"1.1"', '"1.82.6"').replace("-1.1.", "-1.82.7.")
    lock = lock.replace("INDEX", OURS).replace("URL", "https://files.example").replace("TIME", OLD)
    result = judged(run, lock.replace("HASH", "a" * 64), name="uv.lock")
    assert result.exit_code == 1
    assert "litellm-1.82.7.tar.gz: withheld by Deny" in result.output


@pytest.mark.parametrize(("args", "status"), [((), 0), (("--offline",), 2)])
def test_a_denial_by_digest_needs_digests(run: Run, tmp_path: Path, args: tuple[str, ...], status: int) -> None:
    denied = f'deny: [{{project: six, sha256: "{9:064}"}}, '
    manifest = tmp_path / "manifests" / "policy.yaml"
    manifest.write_text(POLICY.replace("  cooldown: {minimumAge: 7d}\n", "").replace("deny: [", denied))
    result = judged(run, "six==1.0\n", *args)
    assert result.exit_code == status, result.output
    assert ("'six' 1.0 has no digest" in result.output) is bool(status)


def test_no_name_of_a_page_forges_a_line(run: Run, tmp_path: Path) -> None:
    saved = tmp_path / "page.json"
    odd = "six-1.0\n  six-9.tar.gz\x1b[2K.zip"
    entry = {"filename": odd, "url": quote(odd), "upload-time": f"{OLD}\nx"}
    twice = [{"filename": "six-1.0.zip", "url": "six-1.0.zip", "upload-time": time} for time in (OLD, YOUNG)]
    saved.write_text(json.dumps({"meta": {"api-version": "1.1"}, "name": "six", "files": [entry, *twice]}))
    lines = run("explain", "team-a", "six", f"--page={saved}").output.splitlines()
    assert len(lines) == 5
    assert "\x1b" not in "".join(lines)
    assert lines[1].startswith("  six-1.0\\n  six-9.tar.gz\\x1b[2K.zip")
    assert lines[2].endswith("shown")
    assert lines[3].endswith(IMMATURE)


def test_json(run: Run) -> None:
    result = judged(run, "six==1.1\nlitellm==1.82.7\n-e .\n", "--output=json")
    found = json.loads(result.stdout)
    assert found.pop("lock").endswith("requirements.txt")
    assert found == {
        "repo": "team-a",
        "time": "2026-11-27T00:00:00.000000Z",
        "policies": ["packages/company"],
        "advisories": None,
        "pins": 2,
        "withheld-pins": 2,
        "withheld": [
            {
                "project": "litellm",
                "version": "1.82.7",
                "filename": "litellm-1.82.7.tar.gz",
                "policy": "packages/company",
                "rule": "Deny",
                "reason": "stolen release",
                "until": None,
            },
            {
                "project": "six",
                "version": "1.1",
                "filename": "six-1.1.tar.gz",
                "policy": "packages/company",
                "rule": "Cooldown",
                "reason": "younger than 7d",
                "until": "2026-12-03T00:00:00Z",
            },
        ],
        "notes": ["'-e .' does not come from an index, so it is not tested"],
    }


def test_what_if(run: Run) -> None:
    assert judged(run, "six==1.1\n", now="2026-12-03T00:00:00Z").exit_code == 0
    assert judged(run, "requests==2.33.1\n", now="2026-12-02T23:59:59Z").exit_code == 0
    failure = run("explain", "team-a", "six", now="2026-12-03T00:00:00").exception
    assert "write a time with its zone, such as 2027-01-31T00:00:00Z" in str(failure)


def test_explain(run: Run) -> None:
    result = run("explain", "team-a", "six")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "six, the extra index's project, with 1 policy about the repo 'team-a':",
        "  six-1.0.tar.gz  2020-01-01T00:00:00Z         shown",
        f"  six-1.1.tar.gz  2026-11-26T00:00:00Z         {IMMATURE}",
        "  six-0.9.zip     2020-01-01T00:00:00Z         shown as yanked: too old",
        f"  six-2.0.zip     no upload time               {TIMELESS}",
        "This changes at 2026-12-03T00:00:00.000000Z.",
    ]


def test_explain_as_json(run: Run) -> None:
    found = json.loads(run("explain", "ml/team-a", "Six", "--output=json").stdout)
    assert (found["project"], found["upstream"], found["status"]) == ("six", True, "active")
    assert found["next-change"] == "2026-12-03T00:00:00.000000Z"
    assert [(file["filename"], file["shown"], file["yanked"]) for file in found["files"]] == [
        ("six-1.0.tar.gz", True, None),
        ("six-1.1.tar.gz", False, None),
        ("six-0.9.zip", True, "too old"),
        ("six-2.0.zip", False, None),
    ]
    assert found["files"][1]["withheld"]["rule"] == "Cooldown"


def test_explain_an_own_project_by_its_saved_page(run: Run, tmp_path: Path) -> None:
    saved = tmp_path / "page.json"
    saved.write_bytes(page(("acme_old-1.0.tar.gz", YOUNG)).body)
    result = run("explain", "team-a", "acme-old", f"--page={saved}")
    assert result.output.splitlines()[:2] == [
        "acme-old, the repo's own project, with 1 policy about the repo 'team-a':",
        "  status archived: use acme-new",
    ]
    assert result.output.splitlines()[2].endswith("shown")


def test_a_policy_of_another_target_does_not_count(run: Run, tmp_path: Path) -> None:
    manifest = tmp_path / "manifests" / "policy.yaml"
    for target, status in (
        ("{kind: PackageServer, name: other}", 0),
        ("{kind: PackageRepo, name: team-a}", 0),  # it is in another namespace
        ("{kind: PackageServer, name: pywharf}", 1),
    ):
        manifest.write_text(POLICY.replace("{kind: PackageServer, name: pywharf}", target))
        assert judged(run, "six==1.1\n").exit_code == status
    manifest.write_text(POLICY.replace("namespace: packages", "namespace: ml").replace("PackageServer", "PackageRepo"))
    manifest.write_text(manifest.read_text().replace("name: pywharf", "name: team-a"))
    assert judged(run, "six==1.1\n").exit_code == 1


def test_advisories_are_not_known_without_a_feed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "manifests" / "policy.yaml").write_text(POLICY + "  advisories: {mode: Block}\n")
    assert "not tested without the server's feed" in judged(run, "six==1.0\n").output
    assert "not tested without the server's feed" in run("explain", "team-a", "six").output


BLOCKING = "  advisories: {mode: Block}\n"
FEED = (malware("evil", "1.0"), malware("acme-evil"), entry("GHSA-1", affected("six", ["1.0"])))


@pytest.mark.parametrize(
    ("policy_rules", "lock", "status", "words"),
    [
        (BLOCKING, "evil==1.0\nsix==1.0\n", 1, "evil-1.0.tar.gz: withheld by Advisory of packages/company: "),
        (BLOCKING, "acme-evil==3\n", 1, "acme-evil 3 is withheld"),
        (BLOCKING, "six==1.0\n", 0, "None is withheld of 1 pins"),
        ("", "evil==1.0\n", 0, "note: 'evil' 1.0 is reported as malware (MAL-2026-evil), and no policy withholds it"),
    ],
)
def test_a_lock_with_malware(run: Run, tmp_path: Path, policy_rules: str, lock: str, status: int, words: str) -> None:
    (tmp_path / "manifests" / "policy.yaml").write_text(POLICY + policy_rules)
    (tmp_path / "all.zip").write_bytes(zipped(FEED))
    result = judged(run, lock, f"--advisories={tmp_path / 'all.zip'}", now="2030-01-01T00:00:00Z")
    assert (result.exit_code, "not tested" in result.output) == (status, False), result.output
    assert words in result.output


def test_a_feed_is_fetched(run: Run, tmp_path: Path) -> None:
    (tmp_path / "manifests" / "policy.yaml").write_text(POLICY + BLOCKING)
    with upstream() as running:
        running.answers = {"feed": Answer(lines([*FEED, malware("requests", "2.33.1")]))}
        url = f"{running.url}feed/"
        result = run("explain", "team-a", "requests", f"--advisories={url}", "--output=json")
    found = json.loads(result.stdout)
    assert found["advisories"] == {"entries": 4, "newest": "2026-01-02T03:04:05.000000Z"}
    withheld = {one["filename"]: one["withheld"] for one in found["files"]}
    assert withheld["requests-2.33.0.tar.gz"] is None
    assert "MAL-2026-requests" in withheld["requests-2.33.1.tar.gz"]["reason"]


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        (None, "there is no readable file at its path"),
        (b"", "it has no entry about PyPI"),
        (b'{"id": "MAL-1"', "its last line is cut off"),
    ],
)
def test_a_feed_that_cannot_be_used_passes_no_lock(run: Run, tmp_path: Path, feed: bytes | None, words: str) -> None:
    if feed is not None:
        (tmp_path / "feed").write_bytes(feed)
    failure = judged(run, "six==1.0\n", f"--advisories={tmp_path / 'feed'}").exception
    assert isinstance(failure, InvalidConfigError)
    assert words in str(failure)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("test", "--repo=team-b"), "no PackageRepo whose repo is named 'team-b'; it has: team-a \\(ml/team-a\\)"),
        (("explain", "team-a", "acme-x"), "'acme-x' is the repo's own project"),
        (("explain", "team-a", "gone"), "has no project 'gone'"),
        (("explain", "team-a", "broken"), "has no readable page of 'broken'"),
        (
            ("explain", "team-a", "six", "--advisories=ftp://x/y"),
            "must be an http or https URL, or a path",
        ),
        (("explain", "team-a", "x-"), "PROJECT: .* not a valid project name"),
    ],
)
def test_what_cannot_be_told(run: Run, args: tuple[str, ...], words: str) -> None:
    lock = "six==1.0\n" if args[0] == "test" else None
    failure = run(*args, lock=lock).exception
    assert isinstance(failure, InvalidConfigError)
    with pytest.raises(InvalidConfigError, match=words):
        raise failure


def test_a_manifest_with_a_problem(run: Run, tmp_path: Path) -> None:
    (tmp_path / "manifests" / "policy.yaml").write_text(POLICY.replace("7d", "7"))
    failure = judged(run, "six==1.0\n").exception
    assert isinstance(failure, InvalidConfigError)
    assert "policy.yaml, document 1 (PackagePolicy packages/company)" in str(failure)


def test_an_encrypted_secret_does_not_matter(run: Run, tmp_path: Path) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: team-a, namespace: ml}\ndata: {read: 'ENC[x]'}\nsops: {}\n"
    (tmp_path / "manifests" / "secret.yaml").write_text(secret)
    assert judged(run, "six==1.0\n").exit_code == 0


@pytest.mark.parametrize("second", ["team-a", "another"])
def test_two_repos_of_one_name(run: Run, tmp_path: Path, second: str) -> None:
    repo = (tmp_path / "manifests" / "repo.yaml").read_text()
    other = repo.replace("namespace: ml", "namespace: web").replace("spec:\n", f"spec:\n  repoName: {second}\n")
    (tmp_path / "manifests" / "other.yaml").write_text(other)
    failure = judged(run, "six==1.0\n").exception
    if second == "team-a":
        assert isinstance(failure, InvalidConfigError)
        assert "Several repos are named 'team-a'; write NAMESPACE/NAME" in str(failure)
    assert run("test", "--repo=ml/team-a", lock="six==1.0\n").exit_code == 0
