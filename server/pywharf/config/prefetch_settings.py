"""PURE. The settings of `pywharf prefetch`, parsed once into a frozen struct."""

from typing import Annotated

from msgspec import Meta

from pywharf.core.redaction import Redacted


class PrefetchSettings(Redacted, frozen=True, kw_only=True):
    """The settings of `pywharf prefetch`, besides the URL. No flag takes a secret itself."""

    lock: Annotated[
        tuple[str, ...],
        Meta(description="A lock file: uv.lock, pylock.toml or requirements (*.txt). Repeat it for several."),
    ]
    platform: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Only wheels for this platform, and files for all: linux (glibc), musllinux, macos or windows, perhaps "
                "with an architecture (linux_x86_64), or a wheel's tag (manylinux_2_28_x86_64). Repeat it for several."
            )
        ),
    ] = ()
    python: Annotated[
        tuple[str, ...],
        Meta(description="Only wheels for this CPython, such as 3.12 or 3.14t. Repeat it for several."),
    ] = ()
    unpin: Annotated[bool, Meta(description="Whether to remove the locks' pins instead.")] = False
    again: Annotated[
        bool, Meta(description="Whether to ask also for what is pinned, so that a lost file is fetched again.")
    ] = False
    parallel: Annotated[int, Meta(ge=1, le=32, description="Files that are fetched concurrently.")] = 8
    user: Annotated[str | None, Meta(description="User name.  [default: the repo's name]")] = None
    secret_env: Annotated[
        str | None, Meta(description="Environment variable that holds the repo's write secret, or a token.")
    ] = None
    secret_file: Annotated[str | None, Meta(description="Path of a file that holds it.")] = None
    ca: Annotated[str | None, Meta(description="Path of the certificates (PEM) to trust instead of the system's.")] = (
        None
    )
