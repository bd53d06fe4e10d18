"""The kubelet's expansion of `$(NAME)` in a container's command, arguments and variables, as a pure function.

The rules come from Kubernetes' documentation: `$$` becomes `$`, and `$(NAME)` becomes the value of the variable NAME.
A reference to an unknown variable and all other text stay unchanged.
"""

import re
from collections.abc import Mapping

_TOKEN = re.compile(r"\$\$|\$\(([^)]*)\)")


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Return the text as the container gets it."""
    return _TOKEN.sub(lambda found: "$" if found[0] == "$$" else variables.get(found[1], found[0]), text)
