"""The URLs of a server and its repos for clients inside the cluster."""

from pywharf.core.names import RepoName
from pywharf_operator.render.labels import object_name
from pywharf_operator.spec import PackageServer


def base_url(server: PackageServer) -> str:
    """Return the URL of the server's Service, without a trailing slash."""
    scheme = "http" if server.spec.tls is None else "https"
    return f"{scheme}://{object_name(server)}.{server.key.namespace}.svc"


def repo_url(server: PackageServer, name: RepoName) -> str:
    """Return the index URL of a repo. Each repo has its own, since clients keep credentials and caches by URL."""
    return f"{base_url(server)}/repo/{name}/simple/"
