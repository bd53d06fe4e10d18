"""The identity document of a running server: write it, and wait until it is served."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pywharf.config.repo_config import config_digest
from support.server.calling import call
from support.server.serving import Server
from support.waiting import wait_for


@dataclass(frozen=True)
class IdentityFile:
    """An identity document beside a server's configuration. The server needs an internal port."""

    path: Path

    def config(self, tables: str) -> str:
        """Return a configuration with these tables that names the document."""
        return f'identity_file = "{self.path}"\n{tables}'

    def write(self, document: dict[str, object]) -> str:
        """Write a document. Returns the digest of its text."""
        text = json.dumps(document)
        temporary = self.path.with_suffix(".new")
        temporary.write_text(text)
        temporary.replace(self.path)
        return hashlib.sha256(text.encode()).hexdigest()

    def serve(self, server: Server, config: str, document: dict[str, object]) -> None:
        """Write a document and wait until the server, whose configuration this is, reports it."""
        wanted = config_digest(config, "", identity_digest=self.write(document))
        wait_for(lambda: call(f"{server.internal_url}/config").json()["digest"] == wanted, "the issuers to be believed")
