"""PURE. The settings of `pywharf copy`, parsed once into a frozen struct."""

from typing import Annotated

from msgspec import Meta

from pywharf.core.endpoints import check_endpoints
from pywharf.core.redaction import Redacted


class CopySettings(Redacted, frozen=True, kw_only=True):
    """The settings of `pywharf copy`, besides FROM, TO and the backends' own fields. No flag takes a secret itself."""

    from_secret_env: Annotated[
        str | None, Meta(description="Environment variable that holds the source's secret, or an index's password.")
    ] = None
    from_secret_file: Annotated[str | None, Meta(description="Path of a file that holds it.")] = None
    from_user: Annotated[str | None, Meta(description="User name for an index by URL; goes with its secret.")] = None
    to_secret_env: Annotated[str | None, Meta(description="Environment variable that holds the target's secret.")] = (
        None
    )
    to_secret_file: Annotated[str | None, Meta(description="Path of a file that holds it.")] = None
    root: Annotated[str, Meta(description="The ROOT of the server, for file_system repos.")] = "."
    from_root: Annotated[str | None, Meta(description="The source's ROOT.  [default: --root]")] = None
    to_root: Annotated[str | None, Meta(description="The target's ROOT.  [default: --root]")] = None
    config: Annotated[str | None, Meta(description="Path of a configuration (TOML) with the repos' tables.")] = None
    admin_secret: Annotated[str | None, Meta(description="Path of the admin secrets (TOML).")] = None
    from_config: Annotated[
        str | None, Meta(description="Configuration with the source's table.  [default: --config]")
    ] = None
    from_admin_secret: Annotated[
        str | None, Meta(description="Admin secrets with the source's.  [default: --admin_secret]")
    ] = None
    to_config: Annotated[
        str | None, Meta(description="Configuration with the target's table.  [default: --config]")
    ] = None
    to_admin_secret: Annotated[
        str | None, Meta(description="Admin secrets with the target's.  [default: --admin_secret]")
    ] = None
    projects: Annotated[
        str | None, Meta(description="Copy only these projects: names or patterns such as acme-*, with commas.")
    ] = None
    parallel: Annotated[int, Meta(ge=1, le=32, description="Files that are copied concurrently.")] = 4
    dry_run: Annotated[bool, Meta(description="Whether to report only what would be copied.")] = False
    update_index: Annotated[bool, Meta(description="Whether to write the target's index afterwards.")] = True
    allowed_endpoints: Annotated[
        str | None, Meta(description="Hosts that may be connected to; as the server's flag of this name.")
    ] = None

    def __post_init__(self) -> None:
        check_endpoints(self.allowed_endpoints)
