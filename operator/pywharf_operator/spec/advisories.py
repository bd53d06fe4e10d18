"""Where a server's advisories come from."""

from typing import Annotated

from msgspec import Meta

from pywharf.config.forms import Url
from pywharf_operator.spec.forms import FeedInterval, FeedPath
from pywharf_operator.spec.model import Model, Rule, exactly_one


class AdvisoryFeed(Model, frozen=True, kw_only=True):
    """A feed of advisories in OSV's format, which every replica follows."""

    rules = (
        Rule(
            cel="has(self.url) != has(self.path)",
            message="advisories must have exactly one of url and path, for example advisories: {url: https://…}",
            holds=lambda feed: exactly_one(feed.url, feed.path),
        ),
    )

    url: Annotated[
        Url | None,
        Meta(description="The feed: a zip with a JSON file for each entry, or lines of JSON. Its host is allowed."),
    ] = None
    path: Annotated[
        FeedPath | None, Meta(description="The feed as a file that `podTemplate` mounts, where no host can be reached.")
    ] = None
    interval: Annotated[
        FeedInterval, Meta(description="Time between two requests for a newer feed: days, hours or minutes.")
    ] = "1h"
