"""PURE. Texts of a container's `command`, `args` and `env` that Kubernetes passes on as they are."""

from collections.abc import Iterable


def container_args(texts: Iterable[str]) -> list[str]:
    """Return the arguments so that a container gets exactly these texts.

    Kubernetes replaces `$(NAME)` in a container's command, arguments and variables by the variable NAME, and `$$` by
    `$`. A user's text may hold either: unescaped, it would read the variables that the server's administrator gave the
    pod. What `spec.podTemplate` says is the administrator's own and is not escaped.
    """
    return [text.replace("$", "$$") for text in texts]
