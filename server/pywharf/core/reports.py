"""The reports that the operator reads: of a replica about its configuration, and of a run of update_index.

Server and operator may have different versions. So an unknown field is ignored, and a new field needs a default.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Fault(msgspec.Struct, frozen=True):
    """Why a replica cannot serve a repo now."""

    code: str
    """The error's code, as in an answer to a client."""
    message: str
    """The reason, in one sentence."""


class WithheldCount(msgspec.Struct, frozen=True):
    """How much one policy withholds, on the pages that a replica made lately."""

    files: _Count = 0
    projects: _Count = 0


class FailingSource(msgspec.Struct, frozen=True):
    """Another index that a replica cannot get pages from."""

    url: str
    failing_since: _Count
    """Unix seconds of the first failure after the last page."""
    last_failure: _Count = 0
    """Unix seconds of the latest one. Between the two nothing was answered; since then nobody may have asked."""


class ConfigReport(msgspec.Struct, frozen=True):
    """The answer to GET /config on a replica's internal port."""

    digest: str
    """`config_digest` of the configuration that every worker serves; "" before the first, or while they differ."""
    broken: Mapping[str, Fault] = {}
    """Repos that cannot be served now, each with the reason."""
    policies: Mapping[str, WithheldCount] | None = None
    """Policies of that configuration, as `namespace/name`, that withhold anything.

    None: the server is of a version before policies, which refuses a configuration with policies."""
    access: bool = False
    """Whether the server reads access entries and an identity document; one of a version before them refuses a
    configuration with any."""
    upstreams: tuple[FailingSource, ...] = ()
    """The other indexes that failed lately, and have answered nothing since, to the worker that was asked."""
    sources: bool = False
    """Whether the server reads several sources of an upstream and the mode Cached; one of a version before them refuses
    a configuration with any."""
    refused: str = ""
    """Why the replica refuses the newest configuration and serves the one before; "" if it does not."""
    reviews_forbidden: bool = False
    """Whether the API server forbids the replica to review the tokens of ServiceAccounts, which it must."""


class IndexReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The file that `update_index --report` writes: the summary of a run, or `error` alone."""

    projects: _Count | None = None
    files: _Count | None = None
    bytes: _Count | None = None
    changed: bool | None = None
    """Whether an index was written."""
    problems: tuple[str, ...] | None = None
    """What was left out and why, a sentence each. None, unlike an empty tuple, is not written."""
    error: str | None = None
    """Why the run failed, in one sentence."""
