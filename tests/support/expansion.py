"""How a kubelet expands `$(NAME)` in a container's command, arguments and variables, as a pure function.

Written after the rules of Kubernetes' documentation: `$$` becomes `$`, `$(NAME)` the value of the variable NAME, and
what names no variable, or is no reference, stays as it is.
"""

import re
from collections.abc import Mapping

_TOKEN = re.compile(r"\$\$|\$\(([^)]*)\)")


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """The text as the container gets it."""
    return _TOKEN.sub(lambda found: "$" if found[0] == "$$" else variables.get(found[1], found[0]), text)
