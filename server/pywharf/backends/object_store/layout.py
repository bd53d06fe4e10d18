"""The keys of a repo's objects in its bucket: as the files of a file_system repo, with claims beside them. Pure."""

import hashlib

import msgspec

from pywharf.core.duplicates import identity
from pywharf.core.filenames import METADATA_SUFFIX
from pywharf.core.names import ProjectName

META_SUFFIX = ".meta"
STATUS_FILENAME = ".status.toml"


class Layout(msgspec.Struct, frozen=True):
    """The keys of one repo, all under its prefix, which is empty or ends with '/'."""

    prefix: str

    @property
    def storage(self) -> str:
        """The folder of the projects."""
        return f"{self.prefix}storage"

    @property
    def journal(self) -> str:
        """The folder of the journal."""
        return f"{self.prefix}journal"

    @property
    def staging(self) -> str:
        """The folder of uploads in progress, and of what tries the store out."""
        return f"{self.prefix}staging"

    @property
    def tokens(self) -> str:
        """The folder of the tokens that were used up or burned."""
        return f"{self.prefix}tokens"

    @property
    def scan(self) -> str:
        """The object in which a scan notes what it has read, so that the next one need not read it."""
        return f"{self.prefix}scan.json"

    def index(self, filename: str) -> str:
        """Return the key of an index file."""
        return f"{self.prefix}{filename}"

    def project(self, project: ProjectName) -> str:
        """Return the folder of a project."""
        return f"{self.storage}/{project}"

    def content(self, project: ProjectName, filename: str) -> str:
        """Return the key of a file's content."""
        return f"{self.storage}/{project}/{filename}"

    def record(self, project: ProjectName, filename: str) -> str:
        """Return the key of a file's record."""
        return self.content(project, filename) + META_SUFFIX

    def metadata(self, project: ProjectName, filename: str) -> str:
        """Return the key of a file's core metadata."""
        return self.content(project, filename) + METADATA_SUFFIX

    def status(self, project: ProjectName) -> str:
        """Return the key of a project's status."""
        return self.content(project, STATUS_FILENAME)

    def claim(self, project: ProjectName, filename: str) -> str:
        """Return the key that all names of a file's distribution share."""
        digest = hashlib.sha256(identity(filename, project).encode()).hexdigest()[:32]
        return f"{self.prefix}claims/{project}/{digest}"
