"""Where clients inside the cluster reach a server and its repos."""

from pywharf.core.names import RepoName
from pywharf_operator.render.labels import object_name
from pywharf_operator.spec import PackageServer


def base_url(server: PackageServer) -> str:
    """The server's Service, without a slash at its end."""
    scheme = "http" if server.spec.tls is None else "https"
    return f"{scheme}://{object_name(server)}.{server.key.namespace}.svc"


def repo_url(server: PackageServer, name: RepoName) -> str:
    """The index URL of a repo: one for each, since clients keep credentials and caches by URL."""
    return f"{base_url(server)}/repo/{name}/simple/"
