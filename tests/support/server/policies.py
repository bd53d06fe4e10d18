"""The policies of a running server: write them, and wait until they are served."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pywharf.config.repo_config import config_digest
from support.server.calling import call
from support.server.serving import Server
from support.waiting import wait_for


@dataclass(frozen=True)
class PolicyFile:
    """A policy document beside a server's configuration. The server needs an internal port."""

    path: Path

    def config(self, tables: str) -> str:
        """Return a configuration with these tables that names the document."""
        return f'policies_file = "{self.path}"\n{tables}'

    def write(self, *policies: dict[str, object]) -> str:
        """Write a document. Returns the digest of its text."""
        text = json.dumps({"policies": policies})
        temporary = self.path.with_suffix(".new")
        temporary.write_text(text)
        temporary.replace(self.path)
        return hashlib.sha256(text.encode()).hexdigest()

    def serve(self, server: Server, config: str, *policies: dict[str, object]) -> None:
        """Write a document and wait until the server, whose configuration this is, reports it."""
        wanted = config_digest(config, "", self.write(*policies))
        wait_for(lambda: call(f"{server.internal_url}/config").json()["digest"] == wanted, "the policies to be served")


def deny(
    project: str, versions: str | None = None, reason: str = "stolen release", **more: object
) -> dict[str, object]:
    """Return a policy that withholds files."""
    rule = {"project": project, "reason": reason, **({"versions": versions} if versions else {})}
    return {"name": "security/deny", "deny": [rule], **more}


def cooldown(seconds: int, **more: object) -> dict[str, object]:
    """Return a policy that withholds upstream files until they are so old."""
    return {"name": "security/slow", "cooldown": {"minimum_age_s": seconds}, **more}
