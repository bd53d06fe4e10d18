"""The HTTP session that kopf reads with. It trims each listed object as soon as its page is read.

kopf keeps every object of a list until its handler has run. Anybody who may create PackageRepos may make each one
1.5 MiB large, so a few hundred untrimmed ones would exhaust the operator's memory.
"""

from typing import Any

import aiohttp
import kopf

from pywharf_operator.cluster.trimming import trimmed
from pywharf_operator.spec.kinds import REPO, SERVER, Kind

_LISTED: dict[str, Kind] = {f"{kind.name}List": kind for kind in (REPO, SERVER)}


class TrimmedResponse(aiohttp.ClientResponse):
    """A response of the API server. The objects of a list are trimmed by `trimmed`."""

    async def json(self, **options: Any) -> Any:  # noqa: ANN401 - JSON
        """Return the decoded response; `options` are aiohttp's."""
        answer = await super().json(**options)
        kind = _LISTED.get(str(answer.get("kind"))) if isinstance(answer, dict) else None
        items = answer.get("items") if kind is not None else None
        if kind is None or not isinstance(items, list):
            return answer
        return {**answer, "items": [trimmed(kind, item) for item in items]}


def session_of(info: kopf.ConnectionInfo) -> kopf.AiohttpSession:
    """Open the session of a login as kopf itself would; kopf closes it. Its connections are not limited."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
        headers=info.as_http_headers(),
        proxy=info.proxy_url,
        trust_env=info.trust_env,
        response_class=TrimmedResponse,
    )
    return kopf.AiohttpSession(server=info.server, aiohttp_session=session)
