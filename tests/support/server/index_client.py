"""A client of one repo that checks everything: it uploads, lists, downloads and compares."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.server.calling import Reply, call, form
from support.server.serving import Server

JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class IndexClient:
    """A client of one repo. `url` is the server's, without a trailing slash. Connection errors reach the caller."""

    url: str
    name: str = "demo"
    secret: str = "demo-write"

    @classmethod
    def of(cls, server: Server, name: str = "demo") -> "IndexClient":
        """Return a client with the write secret of one of the usual repos."""
        return cls(server.url, name, f"{name}-write")

    @property
    def index(self) -> str:
        return f"{self.url}/repo/{self.name}/simple/"

    def get(self, path: str = "", *, timeout_s: float = 30.0, **headers: str) -> Reply:
        """Send a GET for a path below the index."""
        return call(self.index + path, auth=self._auth, headers={**JSON, **headers}, timeout_s=timeout_s)

    def upload(self, file: Path, content: bytes | None = None, *, timeout_s: float = 60.0) -> Reply:
        """Upload a file, or other content under its name."""
        body, content_type = form(
            (":action", "file_upload"),
            ("protocol_version", "1"),
            ("content", file.name, file.read_bytes() if content is None else content),
        )
        headers = {"Content-Type": content_type}
        return call(self.index, "POST", auth=self._auth, headers=headers, body=body, timeout_s=timeout_s)

    def change(self, project: str, action: str, *, timeout_s: float = 60.0, **body: object) -> Reply:
        """Send a change after publishing: `yank`, `unyank`, `delete` or `status`."""
        url = f"{self.url}/repo/{self.name}/-/projects/{project}/{action}"
        headers = {"Content-Type": "application/json"}
        content = json.dumps(body).encode()
        return call(url, "POST", auth=self._auth, headers=headers, body=content, timeout_s=timeout_s)

    def projects(self) -> list[str]:
        """Return all names that the root page lists."""
        return [p["name"] for p in self._page("")["projects"]]

    def files(self, project: str) -> dict[str, dict[str, Any]]:
        """Return a project's files by name; empty if there is no such project."""
        reply = self.get(f"{project}/")
        if reply.status == 404:
            return {}
        assert reply.status == 200, f"GET {project}/: {reply}"
        return {f["filename"]: f for f in reply.json()["files"]}

    def download(self, project: str, filename: str) -> Reply:
        return self.get(f"{project}/{filename}")

    def everything(self) -> dict[str, bytes]:
        """Download every listed file and assert that it matches its page. Returns contents by file name."""
        found: dict[str, bytes] = {}
        for project in self.projects():
            for filename, entry in self.files(project).items():
                found[filename] = self.checked(project, filename, entry)
        return found

    def checked(self, project: str, filename: str, entry: dict[str, Any]) -> bytes:
        """Return a file's content after checking it against its entry on the page."""
        reply = self.download(project, filename)
        assert reply.status == 200, f"{filename} is listed, but GET gives {reply}"
        assert len(reply.body) == entry["size"], f"{filename}: {len(reply.body)} bytes came, the page says {entry}"
        assert sha256(reply.body) == entry["hashes"]["sha256"], f"{filename}: other bytes than the page says: {entry}"
        return reply.body

    @property
    def _auth(self) -> str:
        return f"{self.name}:{self.secret}"

    def _page(self, path: str) -> Any:
        reply = self.get(path)
        assert reply.status == 200, f"GET {path or 'the root page'}: {reply}"
        return reply.json()
