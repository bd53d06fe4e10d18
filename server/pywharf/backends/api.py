"""The public surface: everything that a backend of another distribution imports. docs/backends.md describes it.

A name leaves this list, or changes what it promises, only with a new major version. All other modules are private.
"""

from pywharf.backends.registration import BackendCommand, BackendType, OpenBackend
from pywharf.config.repo_config import BackendSpec
from pywharf.core.access.permission import Permission
from pywharf.core.duplicates import find_duplicate
from pywharf.core.errors import (
    BackendUnavailableError,
    FileExistsInRepoError,
    IndexConflictError,
    InvalidConfigError,
    NotFoundError,
    PywharfError,
    RateLimitedError,
    StorageFullError,
)
from pywharf.core.model import Deletion, File, Project, ProjectStatus
from pywharf.core.names import ProjectName, RepoName
from pywharf.egress.policy import Egress
from pywharf.index.limits import max_index_bytes
from pywharf.index.ports import (
    UNCHANGED,
    Action,
    Authority,
    Backend,
    Change,
    Claims,
    Content,
    Delete,
    IndexStore,
    JournalEntry,
    JournalRead,
    LocalContent,
    Packages,
    Probeable,
    Progress,
    RateLimit,
    RateLimited,
    RedirectContent,
    Reserve,
    ScannedProject,
    SetStatus,
    SetYanked,
    StoredIndex,
    StreamContent,
    Unchanged,
    Upload,
)

__all__ = [
    "UNCHANGED",
    "Action",
    "Authority",
    "Backend",
    "BackendCommand",
    "BackendSpec",
    "BackendType",
    "BackendUnavailableError",
    "Change",
    "Claims",
    "Content",
    "Delete",
    "Deletion",
    "Egress",
    "File",
    "FileExistsInRepoError",
    "IndexConflictError",
    "IndexStore",
    "InvalidConfigError",
    "JournalEntry",
    "JournalRead",
    "LocalContent",
    "NotFoundError",
    "OpenBackend",
    "Packages",
    "Permission",
    "Probeable",
    "Progress",
    "Project",
    "ProjectName",
    "ProjectStatus",
    "PywharfError",
    "RateLimit",
    "RateLimited",
    "RateLimitedError",
    "RedirectContent",
    "RepoName",
    "Reserve",
    "ScannedProject",
    "SetStatus",
    "SetYanked",
    "StorageFullError",
    "StoredIndex",
    "StreamContent",
    "Unchanged",
    "Upload",
    "find_duplicate",
    "max_index_bytes",
]
