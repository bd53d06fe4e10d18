"""Where a server's advisories come from."""

from typing import Annotated

from msgspec import Meta

from pywharf.config.forms import Url
from pywharf_operator.spec.forms import Age, FeedPath
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
        Meta(description="The feed: a zip with one JSON file an entry, or JSON lines. Its host is allowed with it."),
    ] = None
    path: Annotated[
        FeedPath | None,
        Meta(description="The same as a file or a folder that `podTemplate` mounts, where no host is reached."),
    ] = None
    interval: Annotated[
        Age, Meta(description="How often the feed is looked at: days, hours or minutes, such as 15m.")
    ] = "15m"
