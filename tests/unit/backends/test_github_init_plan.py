"""Check what github.init_pkg_repo does, as a function of what it finds in the repository."""

import shlex

import msgspec
import pytest
import yaml

from pywharf import __version__
from pywharf.backends.github import readme, workflow
from pywharf.backends.github.init_pkg_repo import tables
from pywharf.backends.github.init_plan import Found, StoredFile, Wanted, plan
from pywharf.backends.github.settings import InitPkgRepoSettings
from pywharf.backends.opening import spec_types
from pywharf.config.repo_config import GithubSpec, parse_config
from pywharf.core.errors import InvalidConfigError
from pywharf.core.names import RepoName

NAME = RepoName("team-a")
SPEC = GithubSpec(owner="acme", repo="wheels")
WANTED = Wanted(name=NAME, spec=SPEC)
README = StoredFile(readme.readme(NAME, SPEC, pages=False), "r1")
OWN_README = StoredFile("# wheels\n", "r0")
WORKFLOW = StoredFile(workflow.workflow(NAME, SPEC), "w1")
OTHER_WORKFLOW = StoredFile(workflow.workflow(RepoName("before"), SPEC), "w2")
CHANGED_WORKFLOW = StoredFile(WORKFLOW.text + "# mine\n", "w3")
ROOT = frozenset({"README.md", "index.toml", ".github"})
DONE = Found(default_branch="master", root=ROOT, files={readme.PATH: README, workflow.PATH: WORKFLOW}, has_secret=True)
INDEX_STEP = "Write index.toml in the branch master"
SECRET_STEP = "Set the Actions secret PYWHARF_TOKEN"
PAGES_STEP = "Write .github/workflows/gen_gh_pages.yml in the branch master"
WORKFLOW_STEP = "Write .github/workflows/update_index.yml in the branch master"
SECRET_NOTE = "The Actions secret PYWHARF_TOKEN is left as it is; --replace_secret sets it again."
STEPS = ["Write README.md in the branch master", INDEX_STEP, SECRET_STEP, WORKFLOW_STEP]


def changed(struct, **fields):
    return msgspec.structs.replace(struct, **fields)


@pytest.mark.parametrize(
    ("wanted", "found", "actions", "notes"),
    [
        (WANTED, None, ["Create the private GitHub repository acme/wheels with the branch master", *STEPS], []),
        (
            changed(WANTED, private=False, pages=True),
            None,
            [
                "Create the public GitHub repository acme/wheels with the branch master",
                *STEPS[:3],
                "Enable GitHub Pages, built by the workflow",
                PAGES_STEP,
                STEPS[3],
            ],
            [],
        ),
        (WANTED, DONE, [], [SECRET_NOTE]),
        (
            WANTED,
            Found(
                default_branch="master",
                root=frozenset({"src", "README.md"}),
                files={readme.PATH: changed(README, text="Ours")},
            ),
            STEPS[1:],
            ["README.md is left as it is."],
        ),
        (
            WANTED,
            Found(default_branch="main", root=frozenset({"README.md"}), files={readme.PATH: OWN_README}),
            ["Rename the default branch main to master", "Replace README.md in the branch master", *STEPS[1:]],
            [],
        ),
        (
            WANTED,
            Found(default_branch="main", has_commits=False),
            ["Write README.md in the branch main", "Rename the default branch main to master", *STEPS[1:]],
            [],
        ),
        (WANTED, Found(default_branch="master", has_commits=False), STEPS, []),
        (WANTED, changed(DONE, root=frozenset({"README.md", "index.json", ".github"})), [], [SECRET_NOTE]),
        (changed(WANTED, replace_secret=True), DONE, ["Replace the Actions secret PYWHARF_TOKEN"], []),
        (
            WANTED,
            changed(DONE, files={readme.PATH: README, workflow.PATH: OTHER_WORKFLOW}),
            ["Replace .github/workflows/update_index.yml in the branch master"],
            [SECRET_NOTE],
        ),
        (
            WANTED,
            changed(DONE, files={readme.PATH: README, workflow.PATH: CHANGED_WORKFLOW}),
            [],
            [
                SECRET_NOTE,
                ".github/workflows/update_index.yml was changed by somebody and is left as it is; --force replaces it.",
            ],
        ),
        (
            changed(WANTED, force=True),
            changed(DONE, files={readme.PATH: README, workflow.PATH: CHANGED_WORKFLOW}),
            ["Replace .github/workflows/update_index.yml in the branch master"],
            [SECRET_NOTE],
        ),
        (
            WANTED,
            changed(DONE, private=False),
            [],
            ["acme/wheels is public and stays so: everybody can read its packages.", SECRET_NOTE],
        ),
        (
            changed(WANTED, pages=True, force=True),
            changed(DONE, pages="legacy"),
            ["Let the workflow build GitHub Pages", PAGES_STEP],
            ["README.md is left as it is.", SECRET_NOTE],
        ),
        (
            changed(WANTED, pages=True, private=False),
            changed(DONE, private=False, pages="legacy"),
            [PAGES_STEP],
            [
                "README.md is left as it is.",
                SECRET_NOTE,
                "GitHub Pages is built otherwise and left as it is; --force lets the workflow build it.",
            ],
        ),
    ],
)
def test_plan(wanted, found, actions, notes):
    planned = plan(wanted, found)
    assert [str(one) for one in planned.actions] == actions
    assert list(planned.notes) == notes


@pytest.mark.parametrize(
    ("wanted", "found", "said"),
    [
        (WANTED, changed(DONE, archived=True), "acme/wheels is archived; unarchive it"),
        (WANTED, changed(DONE, default_branch="trunk"), "give --branch=trunk"),
        (changed(WANTED, pages=True), None, "would tell everybody the names of its packages"),
        (changed(WANTED, pages=True, private=False), DONE, "would tell everybody the names of its packages"),
    ],
)
def test_what_cannot_be(wanted, found, said):
    with pytest.raises(InvalidConfigError, match=said):
        plan(wanted, found)


GIVEN = "pywharf[github] @ git+https://github.example/acme/py'wharf@main # : x"
FLAGS = [
    *("--owner=acme", "--repo=wheels", "--branch=master", "--index_filename=index.json"),
    *("--api_url=https://github.example/api/v3", "--secret_env=PYWHARF_TOKEN"),
]


def test_workflows():
    spec = changed(SPEC, api_url="https://github.example/api/v3", index_filename="index.json")
    parsed = yaml.safe_load(workflow.workflow(NAME, spec))
    on = parsed[True]  # YAML 1.1 reads `on` as a Boolean; GitHub does not
    assert on["release"]["types"] == ["published", "edited", "deleted"]
    assert on["schedule"][0]["cron"].endswith(" * * * *")
    assert "workflow_dispatch" in on
    assert parsed["permissions"] == {}
    assert parsed["concurrency"] == {"group": "update_index", "cancel-in-progress": False}
    steps = parsed["jobs"]["update_index"]["steps"]
    assert shlex.split(steps[1]["run"]) == ["pip", "install", f"pywharf[github]=={__version__}"]
    assert shlex.split(steps[2]["run"]) == ["pywharf", "update_index", "github", "team-a", *FLAGS]
    assert steps[2]["env"] == {"PYWHARF_TOKEN": "${{ secrets.PYWHARF_TOKEN }}"}

    pages = yaml.safe_load(workflow.pages_workflow(spec, GIVEN))
    assert pages[True]["workflow_run"] == {"workflows": [parsed["name"]], "types": ["completed"]}
    assert pages["permissions"] == {}
    job = pages["jobs"]["pages"]
    assert shlex.split(job["steps"][1]["run"]) == ["pip", "install", GIVEN]
    assert job["permissions"] == {"pages": "write", "id-token": "write"}
    assert job["environment"] == {"name": "github-pages"}
    assert shlex.split(job["steps"][2]["run"]) == ["pywharf", "github.gen_gh_pages", *FLAGS, "--folder=site"]
    assert job["steps"][3]["with"] == {"path": "site"}
    used = [one["uses"] for one in (*steps, *job["steps"]) if "uses" in one]
    assert all(one.startswith("actions/") and one.count(".") == 2 for one in used)
    assert workflow.is_untouched(workflow.pages_workflow(spec))


def test_a_workflow_shows_whether_somebody_changed_it():
    assert workflow.is_untouched(WORKFLOW.text)
    assert workflow.is_untouched(WORKFLOW.text.replace("\n", "\r\n"))
    assert not workflow.is_untouched(WORKFLOW.text.replace("60", "30"))
    assert not workflow.is_untouched("name: update_index\n")
    assert not workflow.is_untouched("")


@pytest.mark.parametrize(
    ("flags", "where"),
    [
        ({}, {"env": "PYWHARF_TOKEN"}),
        ({"secret": "ghp_hidden"}, {"env": "PYWHARF_TOKEN"}),
        ({"secret_env": "MINE"}, {"env": "MINE"}),
        ({"secret_file": "/run/token"}, {"file": "/run/token"}),
        ({"secret_file": "/run/token", "workflow_secret_env": "LESS"}, {"env": "LESS"}),
        ({"secret_env": "MINE", "workflow_secret_file": "/run/less"}, {"file": "/run/less"}),
    ],
)
def test_tables(flags, where):
    settings = InitPkgRepoSettings(name="team-a", owner="acme", repo="wheels", **flags)
    config, _, secrets = tables(NAME, settings.spec, settings).partition("# Of its --admin_secret:")
    parsed = parse_config(config, secrets, specs=spec_types())
    assert parsed.repos == {NAME: GithubSpec(owner="acme", repo="wheels")}
    (found,) = parsed.admin_secrets.values()
    assert {key: value for key in ("raw", "env", "file") if (value := getattr(found, key)) is not None} == where
    assert "ghp_hidden" not in config + secrets + repr(settings)


def test_readme_names_the_pages_address():
    assert "https://acme.github.io/wheels/simple/" in readme.readme(NAME, SPEC, pages=True)
    assert "github.io" not in README.text
    own = changed(SPEC, repo="acme.github.io")
    assert "https://acme.github.io/simple/" in readme.readme(NAME, own, pages=True)
