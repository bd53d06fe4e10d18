"""The keys under which handlers find the server's parts in the application, and facts in the request."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from pywharf.core.access.deciding import Grant
from pywharf.core.access.identities import ProxyUser
from pywharf.core.filenames import DistributionFilename
from pywharf.core.forwarded import TrustedProxies
from pywharf.core.names import RepoName
from pywharf.index.advisories import CurrentAdvisories
from pywharf.serving.advisories.served_files import ServedFiles
from pywharf.serving.audit_log import AuditLog
from pywharf.serving.brake import Brake
from pywharf.serving.gatekeeper import Gatekeeper
from pywharf.serving.in_flight import RunningRequests
from pywharf.serving.metrics import Metrics
from pywharf.serving.repos import ServedRepos
from pywharf.serving.sessions import Sessions
from pywharf.serving.slots import Slots
from pywharf.serving.trusted_publishing.minting import Minting

REPOS: web.AppKey[ServedRepos] = web.AppKey("repos", ServedRepos)
GATEKEEPER: web.AppKey[Gatekeeper] = web.AppKey("gatekeeper", Gatekeeper)
SESSIONS: web.AppKey[Sessions] = web.AppKey("sessions", Sessions)
METRICS: web.AppKey[Metrics] = web.AppKey("metrics", Metrics)
RUNNING: web.AppKey[RunningRequests] = web.AppKey("running", RunningRequests)
UPLOADS: web.AppKey[Slots] = web.AppKey("uploads", Slots)
"""Each slot is held by a repo's name."""
PINS: web.AppKey[Slots] = web.AppKey("pins", Slots)
"""Each slot is held by a repo's name."""
PROXY_USER: web.AppKey[Callable[[web.Request], ProxyUser | None]] = web.AppKey("proxy_user", Callable)  # type: ignore[arg-type]
"""Returns whom a trusted proxy says that a request is from. Missing on a server that believes no proxy's headers."""
LOGINS: web.AppKey[Slots] = web.AppKey("logins", Slots)
"""Each slot is held by a client's address: anybody may send a login form."""
MINTING: web.AppKey[Minting] = web.AppKey("minting", Minting)
MINTS: web.AppKey[Slots] = web.AppKey("mints", Slots)
"""Each slot is held by a client's address: anybody may send a token."""
ADVISORIES: web.AppKey[CurrentAdvisories] = web.AppKey("advisories", CurrentAdvisories)
SERVED_FILES: web.AppKey[ServedFiles] = web.AppKey("served_files", ServedFiles)
"""Missing on a server without a feed of advisories."""
ADVISORY_QUERIES: web.AppKey[Slots] = web.AppKey("advisory_queries", Slots)
"""Each slot is held by a client's address: anybody may ask."""
ADVISORY_TURN: web.AppKey[asyncio.Lock] = web.AppKey("advisory_turn", asyncio.Lock)
"""Held by the one call that is being answered."""
AUDIT_LOG: web.AppKey[AuditLog] = web.AppKey("audit_log", AuditLog)
BRAKE: web.AppKey[Brake] = web.AppKey("brake", Brake)
TRUSTED_PROXIES: web.AppKey[TrustedProxies] = web.AppKey("trusted_proxies", TrustedProxies)
"""Empty: the peer of the connection is the client."""

REPO: web.RequestKey[RepoName] = web.RequestKey("repo", RepoName)
"""The name of the request's repo, for the logs and cross-origin reading."""
GRANT: web.RequestKey[Grant] = web.RequestKey("grant", Grant)
"""What an identity was granted, for the logs. Missing if the repo's own secrets or its storage decided."""
UPLOADED: web.RequestKey[DistributionFilename] = web.RequestKey("uploaded", DistributionFilename)
"""The name of the file that the request uploads, once it has arrived."""
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
"""The request's id, once it was needed."""
