"""PURE. Escaping of texts for a container's `command`, `args` and `env`, which Kubernetes would otherwise expand."""

from collections.abc import Iterable


def container_args(texts: Iterable[str]) -> list[str]:
    """Escape the arguments so that a container gets exactly these texts.

    Kubernetes replaces `$(NAME)` in a container's command, arguments and variables by the variable NAME, and `$$` by
    `$`. A user's text may hold either: unescaped, it would read the variables that the server's administrator gave the
    pod. `spec.podTemplate` is the administrator's own and is not escaped.
    """
    return [text.replace("$", "$$") for text in texts]
