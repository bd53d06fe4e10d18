"""The keys under which handlers find the server's parts in the application, and facts in the request."""

from aiohttp import web

from pywharf.core.names import RepoName
from pywharf.serving.gatekeeper import Gatekeeper
from pywharf.serving.in_flight import RunningRequests
from pywharf.serving.metrics import Metrics
from pywharf.serving.repos import ServedRepos
from pywharf.serving.sessions import Sessions
from pywharf.serving.slots import Slots

REPOS: web.AppKey[ServedRepos] = web.AppKey("repos", ServedRepos)
GATEKEEPER: web.AppKey[Gatekeeper] = web.AppKey("gatekeeper", Gatekeeper)
SESSIONS: web.AppKey[Sessions] = web.AppKey("sessions", Sessions)
METRICS: web.AppKey[Metrics] = web.AppKey("metrics", Metrics)
RUNNING: web.AppKey[RunningRequests] = web.AppKey("running", RunningRequests)
UPLOADS: web.AppKey[Slots] = web.AppKey("uploads", Slots)
"""Each slot is held by a repo's name."""
LOGINS: web.AppKey[Slots] = web.AppKey("logins", Slots)
"""Each slot is held by a client's address: anybody may send a login form."""

REPO: web.RequestKey[RepoName] = web.RequestKey("repo", RepoName)
"""The name of the request's repo, for the logs and cross-origin reading."""
