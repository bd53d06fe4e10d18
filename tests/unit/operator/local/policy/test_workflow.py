"""The example of a CI's workflow, whose script runs here with a double of the command."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from support.parts import CHECKOUT

WORKFLOW = CHECKOUT / "examples" / "gitops" / "workflows" / "policy.yaml"


@pytest.mark.parametrize(
    ("locks", "exit_status", "said"),
    [
        ([], 1, "nothing was tested"),
        (["team-a/other.lock"], 1, "nothing was tested"),
        (["team-a/uv.lock", "team-b/requirements.txt"], 0, "--repo=team-b --lock=locks/team-b/requirements.txt"),
        (["bad/uv.lock", "team-a/pylock.toml"], 1, "--repo=team-a --lock=locks/team-a/pylock.toml"),
    ],
    ids=["no folder", "no lock", "all fit", "one is withheld"],
)
def test_the_script(tmp_path: Path, locks: list[str], exit_status: int, said: str) -> None:
    for lock in locks:
        (tmp_path / "locks" / lock).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "locks" / lock).touch()
    command = tmp_path / "bin" / "pywharf"
    command.parent.mkdir()
    command.write_text('#!/bin/sh\necho "$@"\ncase "$*" in *repo=bad*) exit 1 ;; esac\n')
    command.chmod(0o755)
    script = yaml.safe_load(WORKFLOW.read_text())["jobs"]["test"]["steps"][-1]["run"]
    path = {"PATH": f"{command.parent}:{os.environ['PATH']}"}
    # As GitHub runs it.
    ran = subprocess.run(
        ["/bin/bash", "-e", "-c", script], cwd=tmp_path, env=path, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (exit_status, "")
    assert said in ran.stdout


def test_the_original_is_never_installed() -> None:
    """The public index has versions below 1 of the original, which has none of these commands."""
    text = WORKFLOW.read_text()
    assert 'pip install "pywharf[operator]>=1"' in text
    assert "PIP_INDEX_URL" in text
